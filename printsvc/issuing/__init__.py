"""From a dose event to a signed certificate and what stands on its page.

The same rules at the centre and at a site without a line: nothing here reads a file, a clock or a database. What may
differ from one release to the next (vaccines, countries) is handed in as value sets.
"""

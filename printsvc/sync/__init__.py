"""The server side of the site agents."""

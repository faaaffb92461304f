"""The agent's mind, pure: what happens to a leased job until its paper is out, or a person must look.

::

    leased ─ready─ intended ─held─ released ─asking─┬─ printed
                                                    ├─ uncertain   never tried again by the agent
                                                    └─ failed      certainly no paper

`attempt` has the nouns and the table of transitions, `messages` the events and actions, `witness` the rules of evidence
and `machine` the step. Times are aware UTC; durations are seconds.
"""

from spooler.core.machine import restore, step

__all__ = ["restore", "step"]

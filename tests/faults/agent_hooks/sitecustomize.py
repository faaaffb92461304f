"""Loaded by an agent that has this folder on its path: it dies where a test says, and its clock is off.

`FAULTS_HOOKS` names a JSON file: `shift_s` is how far the clock is off, read at the start; `dies_at` a step such as
`createJob:after` or `commit-held:before`, read at each step and taken out of the file before the agent dies of it.
"""

import datetime
import json
import os
import signal
from pathlib import Path

_FILE = Path(os.environ["FAULTS_HOOKS"])


def _told():
    return json.loads(_FILE.read_text())


def _step(name):
    told = _told()
    if told.get("dies_at") == name:
        _FILE.write_text(json.dumps({**told, "dies_at": "", "died_at": name}))
        os.kill(os.getpid(), signal.SIGKILL)


class _Connection:
    """CUPS's, with a step before and after each of its calls."""

    def __init__(self, real):
        self._real = real

    def __getattr__(self, name):
        method = getattr(self._real, name)

        def call(*arguments, **named):
            _step(f"{name}:before")
            answer = method(*arguments, **named)
            _step(f"{name}:after")
            return answer

        return call


def _hook():
    from spooler import agent
    from spooler.core.messages import Save
    from spooler.cupsd import server
    from spooler.journal import Journal

    for name in ("create_held", "release"):
        real = getattr(server, name)
        setattr(server, name, lambda connection, *rest, real=real: real(_Connection(connection), *rest))

    commit = Journal.commit

    def commit_with_steps(journal, records):
        records = list(records)
        phases = [record.job.phase.value for record in records if isinstance(record, Save)]
        for phase in phases:
            _step(f"commit-{phase}:before")
        commit(journal, records)
        for phase in phases:
            _step(f"commit-{phase}:after")

    Journal.commit = commit_with_steps
    shift = datetime.timedelta(seconds=_told().get("shift_s", 0))
    agent._now = agent.clock = lambda: datetime.datetime.now(datetime.UTC) + shift


_hook()

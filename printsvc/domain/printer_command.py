"""What somebody asks of a site's printers, and what came of it; what the centre has set for a queue."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

NO_ANSWER_AFTER = timedelta(minutes=2)
"""An agent that took a command and says nothing for so long after its end has died, or its line is cut."""


class Verb(StrEnum):
    DISCOVER = "discover"
    ADD = "add"
    REMOVE = "remove"
    CHECK = "check"
    TEST_PAGE = "test-page"
    ENABLE = "enable"
    DISABLE = "disable"
    ACCEPT = "accept"
    REJECT = "reject"
    DRAIN = "drain"
    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"
    PRIORITY = "priority"
    MOVE = "move"
    WITHDRAW = "withdraw"


OF_A_JOB = frozenset({Verb.HOLD, Verb.RELEASE, Verb.CANCEL, Verb.PRIORITY, Verb.MOVE, Verb.WITHDRAW})
OF_A_QUEUE = frozenset(Verb) - OF_A_JOB - {Verb.DISCOVER, Verb.CHECK, Verb.ADD}
ADMINS_ONLY = frozenset({Verb.DISCOVER, Verb.ADD, Verb.REMOVE})


class CommandState(StrEnum):
    """`waiting` for the agent, `given` to it; the others are ends. `no_answer` can still become another one."""

    WAITING = "waiting"
    GIVEN = "given"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    NO_ANSWER = "no_answer"


OPEN = frozenset({CommandState.WAITING, CommandState.GIVEN})


@dataclass(frozen=True, slots=True)
class PrinterCommand:
    """One row of the ledger. `agent_id` None: whichever agent of the site asks first. `expires_at`: not begun later."""

    command_id: str
    site_id: str
    verb: Verb
    asked_by: str
    asked_at: datetime
    expires_at: datetime
    agent_id: str | None = None
    queue: str = ""
    job_id: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    state: CommandState = CommandState.WAITING
    reason: str = ""
    en: str = ""
    vi: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    given_at: datetime | None = None
    ended_at: datetime | None = None

    def state_at(self, now: datetime) -> CommandState:
        """Return the state, also where nobody has written down yet that its time is over."""
        if self.state is CommandState.WAITING and now >= self.expires_at:
            return CommandState.EXPIRED
        if self.state is CommandState.GIVEN and now >= self.expires_at + NO_ANSWER_AFTER:
            return CommandState.NO_ANSWER
        return self.state


@dataclass(frozen=True, slots=True)
class QueueSetting:
    """`media` are PWG 5101.1 names, the first the default; `pull_back` is in dots of `dpi` (0: not set)."""

    site_id: str
    queue: str
    pool: str = ""
    media: tuple[str, ...] = ()
    dpi: int = 0
    pull_back: int = 0


@dataclass(frozen=True, slots=True)
class JobWish:
    """What somebody wants of a job: a queue or `pool:NAME`, or that it is kept back."""

    asked: str = ""
    kept: bool = False


@dataclass(frozen=True, slots=True)
class JobRoute:
    """Why a job went to `queue`, or waited (`queue` is "")."""

    job_id: str
    at: datetime
    queue: str
    en: str
    vi: str
    attempt_id: str = ""

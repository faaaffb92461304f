"""What waits in CUPS of a paper that was replaced is taken from there, whenever CUPS answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from spooler.core.attempt import Attempt
from spooler.core.witness import CupsWord
from spooler.cupsd.lane import CupsRefusedError, CupsSilentError
from spooler.cupsd.queues import withdraw
from spooler.protocol import AttemptId

ATTEMPT = Attempt(AttemptId("ps-j1-1-1"), 1, "a", datetime(2021, 10, 30, tzinfo=UTC), cups_job_id=7, cups_uuid="urn:7")


class Cups:
    """A CUPS with one job; `silent` times it does not answer first."""

    def __init__(self, *, silent: int = 0, state: int = 5, uuid: str = "urn:7", refuses: bool = False) -> None:
        self.silent, self.state, self.uuid, self.refuses = silent, state, uuid, refuses
        self.canceled: list[int] = []

    async def run(self, function: Callable[[Any], CupsWord], **_: Any) -> CupsWord:
        if self.silent:
            self.silent -= 1
            raise CupsSilentError("starts again", vi="đang khởi động lại")
        if self.refuses:
            raise CupsRefusedError(0x0403, "not you")
        return function(self)

    def getJobAttributes(self, number: int, *_: Any, **__: Any) -> dict[str, Any]:
        return {"job-id": number, "job-uuid": self.uuid, "job-state": self.state, "time-at-processing": 1,
                "job-name": ATTEMPT.attempt_id}  # fmt: skip

    def cancelJob(self, number: int) -> None:
        self.canceled.append(number)


async def test_a_cups_that_starts_again_is_asked_until_it_answers() -> None:
    cups: Any = Cups(silent=3)
    assert await withdraw(cups, ATTEMPT, pause_s=0) is CupsWord.ACTIVE
    assert cups.canceled == [7]


@pytest.mark.parametrize(("state", "uuid"), [(9, "urn:7"), (7, "urn:7"), (5, "urn:another")])
async def test_what_has_ended_or_is_anothers_is_left_alone(state: int, uuid: str) -> None:
    cups: Any = Cups(state=state, uuid=uuid)
    await withdraw(cups, ATTEMPT, pause_s=0)
    assert cups.canceled == []


async def test_a_cups_that_refuses_is_an_error() -> None:
    cups: Any = Cups(refuses=True)
    with pytest.raises(CupsRefusedError):
        await withdraw(cups, ATTEMPT, pause_s=0)

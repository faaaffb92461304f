"""Logs: JSON lines, and no text that somebody else wrote."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from printsvc import log

NAME = "Chimhoàngyến"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that gives what was logged since; everything is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    log.configure("DEBUG")
    yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_our_own_words_are_one_object_a_line(lines: Any) -> None:
    structlog.get_logger("printsvc.x").info("listening", port=8080, odd="a\r\nb\u2028c")
    (entry,) = lines()
    assert (entry["event"], entry["level"], entry["port"], entry["odd"]) == ("listening", "info", 8080, "a\r\nb\u2028c")
    assert entry["timestamp"].endswith("Z")


def test_an_exception_is_its_class_and_place(lines: Any) -> None:
    try:
        raise KeyError(NAME)
    except KeyError:
        structlog.get_logger("printsvc.x").exception("failed")
        logging.getLogger("library").exception("failed too")
    ours, theirs = lines()
    for entry in (ours, theirs):
        assert entry["error"] == "KeyError"
        assert entry["place"].rpartition(":")[2].isdigit()
        assert NAME not in json.dumps(entry, ensure_ascii=False)
    structlog.get_logger("printsvc.x").error("later", exc_info=ValueError(NAME))
    assert (lines()[-1]["error"], lines()[-1]["place"]) == ("ValueError", "")


def test_a_librarys_message_comes_without_its_arguments(lines: Any) -> None:
    logging.getLogger("library").warning("cannot use %s", NAME, stack_info=True)
    (entry,) = lines()
    assert (entry["event"], entry["logger"]) == ("cannot use %s", "library")
    assert NAME not in json.dumps(entry, ensure_ascii=False)


async def test_asyncio_tells_no_exception_of_a_lost_task(lines: Any) -> None:
    loop = asyncio.get_running_loop()
    loop.call_exception_handler({"message": "Task was lost", "exception": ValueError(NAME), "task": NAME})
    (entry,) = [one for one in lines() if one["level"] == "error"]
    assert (entry["event"], entry["error"]) == ("Task was lost", "ValueError")
    assert NAME not in json.dumps(entry, ensure_ascii=False)


@pytest.mark.parametrize("name", ["aiohttp.access", "sqlalchemy.engine.Engine", "alembic.runtime", "weasyprint"])
def test_chatty_libraries_are_quiet_at_any_level(lines: Any, name: str) -> None:
    logging.getLogger(name).info("GET /v1/certificates/%s", NAME)
    assert lines() == []

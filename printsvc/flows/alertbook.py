"""Which rules decide about alerts: those of a file, or those that come with the service."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import structlog

from printsvc.errors import InputError, Problem
from printsvc.stats.alertrules import Rule, parse_rules

_LOG = structlog.get_logger("printsvc.alerts")


def default_rules() -> str:
    """Return the text of the rules of a service that has no file of its own."""
    return resources.files("printsvc.stats").joinpath("default_alert_rules.toml").read_text("utf-8")


def read_rules(file: Path | None) -> tuple[Rule, ...]:
    """Return the rules of a file, or of none. Raises InputError with every mistake and its place."""
    if file is None:
        return parse_rules(default_rules())
    try:
        return parse_rules(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        problem = Problem(str(file), "alert_rules_unreadable", f"Không đọc được: {reason}.", f"Not readable: {reason}.")
        raise InputError([problem]) from None
    except InputError as error:
        raise InputError(
            [Problem(f"{file}{one.pointer}", one.code, one.vi, one.en) for one in error.problems], code=error.code
        ) from None


class AlertBook:
    """The rules in force. A file is read again when it changes; while it is wrong, the rules before it stand."""

    def __init__(self, file: Path | None = None) -> None:
        """Raises InputError for a file that is wrong."""
        self._file = file
        self._mark = self._look_at_file()
        self._rules = read_rules(file)
        self.is_valid = True

    def rules(self) -> tuple[Rule, ...]:
        return self._rules

    def find(self, name: str) -> Rule | None:
        return next((rule for rule in self._rules if rule.name == name), None)

    def look(self) -> None:
        """Read the file again where it changed."""
        mark = self._look_at_file()
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._rules = read_rules(self._file)
        except InputError as error:
            self.is_valid = False
            for problem in error.problems:
                _LOG.warning("alert rules are wrong: those of before stand", place=problem.pointer, detail=problem.en)
            return
        self.is_valid = True
        _LOG.info("alert rules read", rules=len(self._rules))

    def _look_at_file(self) -> tuple[int, int]:
        if self._file is None:
            return (0, 0)
        try:
            about = self._file.stat()
        except OSError:
            return (0, 0)
        return (about.st_mtime_ns, about.st_size)

"""The rules that decide about alerts: a TOML file, read strictly. Pure.

::

    [[rule]]
    name = "agent-silent"             # letters, digits, hyphens; once in the file
    measure = "agent_silent_s"        # one of MEASURES
    above = 300                       # or `below`: exactly one of the two
    while_waiting = true              # only at sites where a paper waits; false where it is absent
    for = "2m"                        # for how long it must hold: seconds, or 30s, 5m, 2h, 7d; 0 where it is absent
    severity = "critical"             # info, warning or critical
    vi = "Điểm {site}: …"             # {site} {subject} {value}
    en = "Site {site}: …"
"""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from printsvc.domain.fleet import Severity, SiteHealth
from printsvc.errors import InputError, Problem
from printsvc.stats.fleet import seconds_since, silent_s, unprinted_s

MAX_RULES = 50  # each is a label of /metrics

Measured = Iterable[tuple[str, float | str | None]]


@dataclass(frozen=True, slots=True)
class Measure:
    """What can be measured of a site: (subject, value) pairs, a value None where nothing is known.

    `unit` is "s", "%", "version" or "" for a plain count; `of` says what the subject is.
    """

    take: Callable[[SiteHealth, datetime], Measured]
    unit: str
    of: str
    about: str


def _site(value: float | None) -> Measured:
    return [("", value)]


MEASURES: Mapping[str, Measure] = {
    "agent_silent_s": Measure(
        lambda s, now: _site(silent_s(s, now)), "s", "site", "time since any agent of the site was heard"
    ),
    "oldest_unprinted_s": Measure(
        lambda s, now: _site(unprinted_s(s, now)), "s", "site", "age of the oldest paper that is wanted and not out"
    ),
    "papers_waiting": Measure(lambda s, _: _site(s.waiting), "", "site", "papers that are wanted and not out"),
    "papers_uncertain": Measure(
        lambda s, _: _site(s.uncertain), "", "site", "papers of which a person must say whether they are there"
    ),
    "oldest_uncertain_s": Measure(
        lambda s, now: _site(seconds_since(s.oldest_uncertain_at, now)), "s", "site", "age of the oldest of them"
    ),
    "papers_failed": Measure(lambda s, _: _site(s.failed), "", "site", "papers that certainly did not come out"),
    "printers_usable": Measure(
        lambda s, _: _site(sum(p.is_usable for p in s.printers) if s.agents else None),
        "",
        "site",
        "printers that could print now, at sites with an agent",
    ),
    "printer_in_error": Measure(
        lambda s, _: [(p.queue, float(p.is_in_error)) for p in s.printers],
        "",
        "queue",
        "1 where the printer is stopped or gives a reason for which no page comes out, else 0",
    ),
    "marker_level": Measure(
        lambda s, _: [(p.queue, p.lowest_marker) for p in s.printers], "%", "queue", "level of the emptiest supply"
    ),
    "clock_skew_s": Measure(
        lambda s, _: [(a.agent_id, None if a.clock_skew_ms is None else abs(a.clock_skew_ms) / 1000) for a in s.agents],
        "s",
        "agent",
        "how far the clock of the agent is from the service's, either way",
    ),
    "agent_version": Measure(
        lambda s, _: [(a.agent_id, a.version or "0") for a in s.agents if a.seen_at is not None],
        "version",
        "agent",
        'version of the agent; `below = "service"` means older than the service',
    ),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """`limit` is a number, or for versions text; `for_s` seconds."""

    name: str
    measure: str
    is_above: bool
    limit: float | str
    for_s: float
    severity: Severity
    vi: str
    en: str
    while_waiting: bool = False


_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
_DURATION = re.compile(r"([0-9]+)(s|m|h|d)?")
_UNIT_S = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")
_KEYS = frozenset({"name", "measure", "above", "below", "for", "severity", "while_waiting", "vi", "en"})
_FIELDS = frozenset({"site", "subject", "value"})


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Return the rules of a file. Raises InputError with every mistake in it, each with its place."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError([_problem("", f"not TOML: {error}", f"không phải TOML: {error}")]) from None
    problems: list[Problem] = []
    for key in sorted(document.keys() - {"rule"}):
        problems.append(_problem(f"/{key}", "unknown key; rules are [[rule]]", "khoá lạ; mỗi quy tắc là [[rule]]"))
    entries = document.get("rule", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        problems.append(_problem("/rule", "rules are [[rule]], with two brackets", "mỗi quy tắc là [[rule]]"))
        entries = []
    if len(entries) > MAX_RULES:
        problems.append(_problem("/rule", f"more than {MAX_RULES} rules", f"quá {MAX_RULES} quy tắc"))
    rules: list[Rule] = []
    for number, entry in enumerate(entries, 1):
        name = entry.get("name")
        place = f"/rule/{number}" + (f" ({name})" if isinstance(name, str) else "")
        wrong = [_problem(place, en, vi) for en, vi in _mistakes(entry)]
        if not wrong and any(rule.name == name for rule in rules):
            wrong = [_problem(place, "there is a rule of this name already", "tên quy tắc bị trùng")]
        problems += wrong
        if not wrong:
            rules.append(_rule(entry))
    if problems:
        raise InputError(problems, code="alert_rules_invalid")
    return tuple(rules)


def _problem(place: str, en: str, vi: str) -> Problem:
    return Problem(place, "alert_rules_invalid", vi, en)


def _mistakes(entry: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Return what is wrong in one rule, in English and Vietnamese."""
    for key in sorted(entry.keys() - _KEYS):
        yield f"unknown key {key}", f"khoá lạ {key}"
    if not (isinstance(entry.get("name"), str) and _NAME.fullmatch(entry["name"])):
        yield "name: small letters, digits and hyphens, 64 at most", "name: chữ thường, số và dấu gạch, tối đa 64"
    measure = MEASURES.get(entry["measure"]) if isinstance(entry.get("measure"), str) else None
    if measure is None:
        known = ", ".join(MEASURES)
        yield f"measure: one of {known}", f"measure: một trong {known}"
    if ("above" in entry) == ("below" in entry):
        yield "give either above or below", "chỉ ghi một trong above hoặc below"
    elif measure is not None:
        yield from _limit_mistakes(measure, entry.get("above", entry.get("below")))
    if _duration_s(entry.get("for", 0)) is None:
        yield "for: seconds, or such as 30s, 5m, 2h, 7d", "for: số giây, hoặc dạng 30s, 5m, 2h, 7d"
    if entry.get("severity") not in set(Severity):
        yield "severity: info, warning or critical", "severity: info, warning hoặc critical"
    if not isinstance(entry.get("while_waiting", False), bool):
        yield "while_waiting: true or false", "while_waiting: true hoặc false"
    for language in ("vi", "en"):
        if not _is_sentence(entry.get(language)):
            yield (
                f"{language}: a sentence of up to 300 characters, with {{site}}, {{subject}}, {{value}}",
                f"{language}: câu tối đa 300 ký tự, dùng được {{site}}, {{subject}}, {{value}}",
            )


def _limit_mistakes(measure: Measure, limit: Any) -> Iterable[tuple[str, str]]:
    if measure.unit == "version":
        if not isinstance(limit, str) or not (limit == "service" or _VERSION.fullmatch(limit)):
            yield 'a limit of a version is text: "1.2.0" or "service"', 'giới hạn là "1.2.0" hoặc "service"'
    elif isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit < 1e9:
        yield "the limit is a number of at least 0", "giới hạn là số không âm"


def _is_sentence(value: Any) -> bool:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= 300 or "\n" in value:
        return False
    try:
        parts = list(string.Formatter().parse(value))
    except ValueError:
        return False
    return all(name is None or (name in _FIELDS and not spec and not turn) for _, name, spec, turn in parts)


def _duration_s(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if 0 <= value < 1e9 else None
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return None if match is None or len(match[1]) > 9 else float(int(match[1]) * _UNIT_S[match[2]])


def _rule(entry: Mapping[str, Any]) -> Rule:
    limit = entry.get("above", entry.get("below"))
    assert limit is not None, "checked before"
    for_s = _duration_s(entry.get("for", 0))
    assert for_s is not None, "checked before"
    return Rule(
        name=entry["name"],
        measure=entry["measure"],
        is_above="above" in entry,
        limit=limit if isinstance(limit, str) else float(limit),
        for_s=for_s,
        severity=Severity(entry["severity"]),
        vi=entry["vi"].strip(),
        en=entry["en"].strip(),
        while_waiting=entry.get("while_waiting", False),
    )

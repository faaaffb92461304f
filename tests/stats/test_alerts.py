"""Rules, alerts and the figures of the fleet: pure, with the clock passed in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.domain.fleet import AgentHealth, Alert, AlertState, PrinterHealth, Severity, SiteHealth
from printsvc.domain.printer import PrinterState
from printsvc.errors import InputError
from printsvc.flows.alertbook import default_rules
from printsvc.stats.alertrules import MAX_RULES, MEASURES, Rule, parse_rules
from printsvc.stats.alerts import TRANSITIONS, Change, evaluate, is_met, readable, sentence, version_of
from printsvc.stats.fleet import KNOWN_REASONS, OTHER, WORST, reason_label, summarise

NOW = datetime(2021, 10, 30, 3, 0, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def agent(**changes: Any) -> AgentHealth:
    return replace(AgentHealth("a-1", ago(9000), ago(10), "0.1.0", 2, 40), **changes)


def printer(**changes: Any) -> PrinterHealth:
    return replace(PrinterHealth("desk1", PrinterState.IDLE, (), True, (80, 60), ago(10)), **changes)


def site(**changes: Any) -> SiteHealth:
    return replace(SiteHealth("HN-1", "01", (agent(),), (printer(),)), **changes)


WELL = site()
RULES = {rule.name: rule for rule in parse_rules(default_rules())}


def run(
    rules: list[Rule], looks: list[tuple[float, SiteHealth]], *, version: str = "0.1.0"
) -> tuple[list[list[Change]], list[Alert]]:
    """Look again and again, `seconds` after NOW; return the changes of each look, and what is open after the last."""
    known: dict[tuple[str, str, str], Alert] = {}
    told = []
    for seconds, health in looks:
        now = NOW + timedelta(seconds=seconds)
        changes = evaluate(rules, [health], list(known.values()), now=now, version=version)
        for change in changes:
            if change.before is not None:
                assert known.pop(change.before.key) == change.before
            if change.after is not None and change.after.state is not AlertState.RESOLVED:
                assert change.after.key not in known, "at most one open alert of a thing"
                known[change.after.key] = change.after
        told.append(changes)
    return told, list(known.values())


# --- the rules that come with the service


BAD = {
    "agent-silent": site(agents=(agent(seen_at=ago(301)),), waiting=1, oldest_unprinted_at=ago(20)),
    "paper-late": site(waiting=1, oldest_unprinted_at=ago(601)),
    "paper-overdue": site(waiting=1, oldest_unprinted_at=ago(1801)),
    "printer-in-error": site(printers=(printer(state_reasons=("media-empty-error",)),)),
    "no-printer": site(printers=(printer(accepting=False),), waiting=1, oldest_unprinted_at=ago(5)),
    "marker-low": site(printers=(printer(marker_levels=(80, 7)),)),
    "paper-uncertain": site(uncertain=1, oldest_uncertain_at=ago(5)),
    "clock-skew": site(agents=(agent(clock_skew_ms=-121_000),)),
    "old-version": site(agents=(agent(version="0.0.9"),)),
}


def test_every_rule_that_comes_with_the_service_is_tried_here() -> None:
    assert BAD.keys() == RULES.keys()


@pytest.mark.parametrize("name", RULES)
def test_a_rule_fires_after_its_time_and_is_resolved_once(name: str) -> None:
    rule, bad = RULES[name], BAD[name]
    looks = [(0.0, bad), (rule.for_s, bad), (rule.for_s + 30, bad), (rule.for_s + 60, WELL), (rule.for_s + 90, WELL)]
    told, left = run([rule], looks)
    states = [[change.after and change.after.state for change in changes] for changes in told]
    first = [AlertState.FIRING] if rule.for_s == 0 else [AlertState.PENDING]
    second: list[Any] = [] if rule.for_s == 0 else [AlertState.FIRING]
    assert states == [first, second, [], [AlertState.RESOLVED], []]
    assert left == []
    fired = told[0][0].after if rule.for_s == 0 else told[1][0].after
    assert fired is not None
    assert fired.fired_at == NOW + timedelta(seconds=rule.for_s)
    unit = MEASURES[rule.measure].unit
    for text in (rule.vi, rule.en):
        said = sentence(text, fired, unit=unit)
        assert "HN-1" in said
        assert "{" not in said


@pytest.mark.parametrize("name", RULES)
def test_a_site_that_is_well_gives_no_alert(name: str) -> None:
    assert evaluate([RULES[name]], [WELL], [], now=NOW, version="0.1.0") == []


@pytest.mark.parametrize("name", [name for name in RULES if RULES[name].for_s])
def test_what_passes_before_its_time_never_fires(name: str) -> None:
    told, left = run([RULES[name]], [(0, BAD[name]), (RULES[name].for_s - 1, BAD[name]), (RULES[name].for_s, WELL)])
    assert [change.after for change in told[2]] == [None]
    assert left == []


def test_a_silent_agent_is_nobodys_worry_while_nothing_waits() -> None:
    quiet = replace(BAD["agent-silent"], waiting=0, oldest_unprinted_at=None)
    assert evaluate([RULES["agent-silent"]], [quiet], [], now=NOW, version="1") == []


def test_a_site_that_never_had_an_agent_is_silent_since_its_first_paper() -> None:
    nobody = site(agents=(), printers=(), waiting=2, oldest_unprinted_at=ago(400))
    (change,) = evaluate([RULES["agent-silent"]], [nobody], [], now=NOW, version="1")
    assert change.after is not None
    assert change.after.value == "400"


def test_an_alert_ends_with_its_rule_its_site_or_its_printer() -> None:
    (change,) = evaluate(
        [replace(RULES["printer-in-error"], for_s=0)], [BAD["printer-in-error"]], [], now=NOW, version=""
    )
    alert = change.after
    assert alert is not None
    for rules, fleet in (
        ([], [BAD["printer-in-error"]]),
        ([RULES["printer-in-error"]], []),
        ([RULES["printer-in-error"]], [site(printers=())]),
    ):
        (ended,) = evaluate(rules, fleet, [alert], now=NOW, version="")
        assert ended.after is not None
        assert (ended.after.state, ended.after.resolved_at) == (AlertState.RESOLVED, NOW)


def test_a_value_is_told_anew_when_it_doubled_and_not_at_every_look() -> None:
    rule = RULES["paper-late"]
    looks = [(float(s), site(waiting=1, oldest_unprinted_at=ago(601))) for s in range(0, 3600, 30)]
    told, _ = run([rule], looks)
    values = [change.after.value for changes in told for change in changes if change.after]
    assert values == ["601", "1231", "2491"]


def test_a_rule_that_wants_longer_now_does_not_end_what_fires() -> None:
    rule = replace(RULES["paper-uncertain"], for_s=0)
    (change,) = evaluate([rule], [BAD["paper-uncertain"]], [], now=NOW, version="")
    assert change.after is not None
    assert change.after.state is AlertState.FIRING
    assert evaluate([replace(rule, for_s=900)], [BAD["paper-uncertain"]], [change.after], now=NOW, version="") == []


@given(st.lists(st.tuples(st.integers(0, 600), st.booleans()), max_size=30))
def test_whatever_comes_and_goes_alerts_follow_the_table(steps: list[tuple[int, bool]]) -> None:
    rule, seconds, looks = replace(RULES["paper-uncertain"], for_s=300), 0.0, []
    for pause, bad in steps:
        seconds += pause
        looks.append((seconds, BAD["paper-uncertain"] if bad else WELL))
    told, left = run([rule], looks)
    ends = {state for (_, _), state in TRANSITIONS.items()}
    held_since: float | None = None
    firing = False
    for (at, health), changes in zip(looks, told, strict=True):
        held_since = None if health is WELL else (at if held_since is None else held_since)
        should = held_since is not None and at - held_since >= 300
        fires = [
            c
            for c in changes
            if c.after
            and c.after.state is AlertState.FIRING
            and (c.before is None or c.before.state is not AlertState.FIRING)
        ]
        resolves = [c for c in changes if c.after and c.after.state is AlertState.RESOLVED]
        assert all((c.after.state if c.after else None) in ends for c in changes)
        assert len(fires) == (should and not firing)
        assert len(resolves) == (firing and health is WELL)
        firing = should or (firing and health is not WELL)
    assert bool(left) == (bool(looks) and looks[-1][1] is not WELL)


# --- rule files


def test_a_rule_file_is_read() -> None:
    (rule,) = parse_rules(
        """
        [[rule]]
        name = "too-many"
        measure = "papers_waiting"
        above = 20
        for = "2h"
        severity = "warning"
        vi = "Điểm {site}: {value} giấy"
        en = "Site {site}: {value} papers"
        """
    )
    assert rule == Rule(
        "too-many", "papers_waiting", True, 20.0, 7200.0, Severity.WARNING, "Điểm {site}: {value} giấy",
        "Site {site}: {value} papers",
    )  # fmt: skip
    assert parse_rules("") == ()


GOOD = {"name": "x", "measure": "papers_waiting", "above": 1, "severity": "info", "vi": "v {site}", "en": "e {site}"}


def toml(**changes: Any) -> str:
    entry = {key: value for key, value in (GOOD | changes).items() if value is not None}
    written = {True: "true", False: "false"}
    lines = [f"{key} = {written[v] if isinstance(v, bool) else repr(v)}" for key, v in entry.items()]
    return "[[rule]]\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ("[[rule]\n", "", "line 1, column"),
        ("[rule]\nname = 'x'\n", "/rule", "two brackets"),
        ("rules = 1\n", "/rules", "unknown key"),
        (toml(name="Not So"), "/rule/1 (Not So)", "name"),
        (toml(name=None), "/rule/1", "name"),
        (toml(measure="temperature"), "/rule/1 (x)", "agent_silent_s"),
        (toml(below=3), "/rule/1 (x)", "either above or below"),
        (toml(above=None), "/rule/1 (x)", "either above or below"),
        (toml(above="many"), "/rule/1 (x)", "number"),
        (toml(above=True), "/rule/1 (x)", "number"),
        (toml(above=-1), "/rule/1 (x)", "number"),
        (toml(measure="agent_version"), "/rule/1 (x)", "service"),
        (toml(severity="fatal"), "/rule/1 (x)", "critical"),
        (toml(while_waiting="yes"), "/rule/1 (x)", "while_waiting"),
        (toml(en=""), "/rule/1 (x)", "en:"),
        (toml(vi="{site.__class__}"), "/rule/1 (x)", "vi:"),
        (toml(vi="{0}"), "/rule/1 (x)", "vi:"),
        (toml(vi="{site!r:>9999999}"), "/rule/1 (x)", "vi:"),
        (toml(en="{"), "/rule/1 (x)", "en:"),
        (toml(fro="5m"), "/rule/1 (x)", "unknown key fro"),
        (toml(**{"for": "5 minutes"}), "/rule/1 (x)", "for:"),
        (toml(**{"for": -1}), "/rule/1 (x)", "for:"),
        (toml() + toml(), "/rule/2 (x)", "already"),
        ("".join(toml(name=f"r{n}") for n in range(MAX_RULES + 1)), "/rule", str(MAX_RULES)),
    ],
)
def test_what_is_wrong_in_a_rule_file_is_said_with_its_place(text: str, place: str, word: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_rules(text)
    (problem,) = caught.value.problems
    assert problem.pointer == place
    assert word in problem.en
    assert problem.vi


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse_rules(toml(name="a", severity="x", measure="y") + toml(name="b", above="z"))
    assert [problem.pointer for problem in caught.value.problems] == ["/rule/1 (a)", "/rule/1 (a)", "/rule/2 (b)"]


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        parse_rules(text)
    except InputError as error:
        assert error.problems  # noqa: PT017


# --- versions, words


@pytest.mark.parametrize(
    ("older", "newer"), [("0.1.0", "0.1.1"), ("0.9", "0.10"), ("", "0.0.1"), ("1.2.0rc1", "1.2.1"), ("nonsense", "0.1")]
)
def test_versions_are_put_in_order(older: str, newer: str) -> None:
    assert version_of(older) < version_of(newer)
    rule = RULES["old-version"]
    assert is_met(rule, older, version=newer)
    assert not is_met(rule, newer, version=older)
    assert not is_met(rule, newer, version=newer)


def test_the_same_version_written_otherwise_is_no_older_one() -> None:
    assert version_of("1.2") == version_of("1.2.0") == version_of("1.2.0rc1")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [("12", "12 s"), ("60", "1 min"), ("612", "10 min"), ("7199", "119 min"), ("7200", "2 h"), ("200000", "2 d")],
)
def test_ages_are_said_as_people_say_them(seconds: str, said: str) -> None:
    assert readable(seconds, "s") == said


# --- the figures of the fleet


def test_the_figures_of_a_small_fleet() -> None:
    fleet = [
        site(),
        replace(BAD["agent-silent"], site_id="HN-2"),
        replace(BAD["paper-overdue"], site_id="HN-3"),
        site(site_id="HN-4", agents=(), printers=(), waiting=1, oldest_unprinted_at=ago(700)),
        replace(BAD["clock-skew"], site_id="HN-5", uncertain=3, oldest_uncertain_at=ago(90), failed=2),
        replace(BAD["printer-in-error"], site_id="HN-6"),
    ]
    told = summarise(fleet, NOW)
    assert (told.sites, told.sites_without_agent, told.silent, told.silent_with_papers) == (6, 1, 1, 2)
    assert told.agents == {"heard": 4, "silent": 1, "never": 0}
    assert (told.waiting, told.oldest_unprinted_s, told.late) == (3, 1801.0, {600: 2, 1200: 1, 1800: 1})
    assert (told.uncertain, told.sites_uncertain, told.oldest_uncertain_s, told.failed) == (3, 1, 90.0, 2)
    assert (told.printers_in_error, told.sites_without_printer, told.markers_low) == (1, 1, 0)
    assert (told.skewed, told.skew_max_s) == (1, 121.0)
    assert told.reasons == {"media-empty": 1}
    assert told.worst["oldest_unprinted_s"] == [("HN-3", 1801.0), ("HN-4", 700.0), ("HN-2", 20.0)]
    assert told.worst["silent_s"][:2] == [("HN-4", 700.0), ("HN-2", 301.0)]


def test_no_fleet_and_no_words_of_strangers_make_more_figures() -> None:
    """What is a label of /metrics is bounded, whatever 19,500 sites and their printers say."""
    fleet = [
        site(
            site_id=f"S-{n}",
            agents=(agent(version=f"0.{n}"),),
            printers=(printer(state_reasons=(f"com.example-{n}-error", "media-empty-error")),),
            waiting=1,
            oldest_unprinted_at=ago(n),
        )
        for n in range(1, 300)
    ]
    told = summarise(fleet, NOW)
    assert told.reasons == {OTHER: 299, "media-empty": 299}
    assert len(told.versions) == 11
    assert sum(told.versions.values()) == 299
    assert all(len(sites) <= WORST for sites in told.worst.values())
    assert told.worst["oldest_unprinted_s"][0] == ("S-299", 299.0)
    assert {reason_label(f"{reason}-warning") for reason in KNOWN_REASONS} == KNOWN_REASONS

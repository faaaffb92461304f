"""Alerts over real stores: each fires and is resolved once, whatever many processes do."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from printsvc.domain.fleet import Alert, AlertState, Severity
from printsvc.errors import InputError, PrintsvcError
from printsvc.flows.alertbook import AlertBook
from printsvc.flows.alerts import tend_alerts
from printsvc.store import fleet as fleet_store
from printsvc.store.engine import Store
from printsvc.store.fleet_tables import alerts as alert_table
from printsvc.store.sites import update_agent

RULE = """
[[rule]]
name = "late"
measure = "oldest_unprinted_s"
above = {limit}
for = {hold}
severity = "warning"
vi = "Điểm {{site}} chờ {{value}}"
en = "Site {{site}} waits {{value}}"
"""


def write(path: Path, *, limit: int = 600, hold: int = 60) -> Path:
    path.write_text(RULE.format(limit=limit, hold=hold))
    return path


async def look(world: Any) -> list[tuple[str, str, str]] | None:
    made = await tend_alerts(world.services, every_s=1, version="0.1.0")
    return None if made is None else [(alert.rule, alert.site_id, alert.state) for alert in made]


def stored(world: Any) -> list[Alert]:
    return list(world.store.read_now(lambda c: fleet_store.list_alerts(c, states=AlertState)))


async def test_a_paper_that_waits_makes_one_alert_and_its_printing_ends_it(world: Any) -> None:
    await world.record(world.event())
    assert await look(world) == []
    world.clock.advance(601)
    assert sorted(await look(world) or []) == [("agent-silent", "HN-1", "firing"), ("paper-late", "HN-1", "firing")]
    before = {alert.rule: alert.state for alert in stored(world)}
    assert before == {"paper-late": AlertState.FIRING, "agent-silent": AlertState.FIRING}
    world.clock.advance(30)
    assert await look(world) == []
    assert {alert.rule: alert.state for alert in stored(world)} == before
    agent = world.add_agent()
    world.store.submit(lambda c: update_agent(c, agent.agent_id, seen_at=world.clock.now)).result()
    world.clock.advance(30)
    assert await look(world) == [("agent-silent", "HN-1", "resolved")]
    (again,) = [alert for alert in stored(world) if alert.rule == "agent-silent"]
    assert again.resolved_at == world.clock.now


async def test_a_second_look_in_the_same_moment_is_nobodys_turn(world: Any) -> None:
    assert await look(world) == []
    assert await look(world) is None
    world.clock.advance(1)
    assert await look(world) == []


async def test_the_database_refuses_a_second_open_alert_of_the_same_thing(world: Any) -> None:
    now = world.clock.now
    alert = Alert("late", "HN-1", "", Severity.WARNING, AlertState.FIRING, "601", now, now, now)
    first, second = [world.store.submit(lambda c: fleet_store.change_alert(c, None, alert)).result() for _ in range(2)]
    assert (first, second) == (True, False)
    values = {c.name: getattr(alert, c.name) for c in alert_table.columns if c.name != "alert_pk"}
    with pytest.raises(PrintsvcError):
        world.store.submit(lambda c: c.execute(alert_table.insert().values(**values))).result()
    assert len(stored(world)) == 1


def test_many_who_change_the_same_alert_are_one_who_did(store: Store, make_world: Callable[..., Any]) -> None:
    now = make_world(store).clock.now
    pending = Alert("late", "HN-1", "", Severity.WARNING, AlertState.PENDING, "601", now, now)
    firing = replace(pending, state=AlertState.FIRING, fired_at=now)
    resolved = replace(firing, state=AlertState.RESOLVED, resolved_at=now)
    with ThreadPoolExecutor(6) as pool:

        def at_once(unit: Callable[[Any], bool]) -> int:
            return sum(pool.map(lambda _: store.submit(unit).result(), range(12)))

        for before, after in ((None, pending), (pending, firing), (firing, resolved)):
            assert at_once(lambda c, b=before, a=after: fleet_store.change_alert(c, b, a)) == 1  # type: ignore[misc]
        assert at_once(lambda c: fleet_store.claim_look(c, now=now, every=timedelta(seconds=30))) == 1
    kept = store.read_now(lambda c: fleet_store.list_alerts(c, states=AlertState))
    assert [alert.state for alert in kept] == [AlertState.RESOLVED]


async def test_a_rule_file_that_changes_is_read_and_a_wrong_one_changes_nothing(world: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "rules.toml")
    book = AlertBook(file)
    assert [rule.limit for rule in book.rules()] == [600.0]
    write(file, limit=60)
    os.utime(file, ns=(1, 1))
    book.look()
    assert (book.is_valid, [rule.limit for rule in book.rules()]) == (True, [60.0])
    file.write_text("[[rule]]\nname = 1\n")
    book.look()
    assert (book.is_valid, [rule.limit for rule in book.rules()]) == (False, [60.0])
    file.unlink()
    book.look()
    assert (book.is_valid, [rule.limit for rule in book.rules()]) == (False, [60.0])
    write(file, limit=30)
    book.look()
    assert (book.is_valid, [rule.limit for rule in book.rules()]) == (True, [30.0])


def test_a_service_does_not_start_with_a_wrong_file(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("[[rule]]\nname = 'x'\n")
    with pytest.raises(InputError) as caught:
        AlertBook(tmp_path / "wrong.toml")
    assert caught.value.problems[0].pointer.startswith(str(tmp_path / "wrong.toml"))
    with pytest.raises(InputError):
        AlertBook(tmp_path / "none.toml")


async def test_resolved_alerts_are_kept_for_a_season(world: Any) -> None:
    now = world.clock.now
    for name, days in (("old", 91), ("new", 89)):
        at = now - timedelta(days=days)
        alert = Alert(name, "HN-1", "", Severity.INFO, AlertState.RESOLVED, "1", at, at, at, at)
        world.store.submit(lambda c, a=alert: fleet_store.change_alert(c, None, a)).result()
    await look(world)
    assert [alert.rule for alert in stored(world)] == ["new"]

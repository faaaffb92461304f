"""The queries that every poll of every agent makes use the small partial indexes, not the table of all papers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text

from printsvc.domain.eventdocument import event_to_document
from printsvc.domain.revocation import RevocationReason
from printsvc.domain.uvci import Uvci
from printsvc.flows import leases
from printsvc.store import doses as dose_store
from printsvc.store import jobs as job_store
from printsvc.store import papers as paper_store
from printsvc.store import reissues as reissue_store
from printsvc.store import revocation_runs as run_store
from printsvc.store import revocations as revocation_store
from printsvc.store.engine import Store
from printsvc.store.tables import certificates, doses, print_jobs, reissue_items

ROWS = 3000
NOW = datetime(2021, 10, 30, tzinfo=UTC)


@pytest.fixture
def full_store(world: Any) -> Store:
    """A store in which one paper of 100 waits, one is leased, and one dose is held."""
    store: Store = world.store
    now = world.clock.now

    def state(n: int) -> str:
        return {0: "waiting", 1: "leased"}.get(n % 100, "confirmed")

    def fill(connection: Connection) -> None:
        ids = range(1, ROWS + 1)
        event_document = event_to_document(world.event())
        dose = {
            "source": "s",
            "site_id": "HN-1",
            "event": event_document,
            "identity": event_document["identity"],
            "reasons": [],
            "mark": "",
        }
        times = {"injected_at": now, "received_at": now, "decided_at": now}
        connection.execute(
            insert(doses),
            [dose | times | {"dose_pk": n, "dose_id": str(n), "outcome": "issued" if n % 100 else "held"} for n in ids],
        )
        certificate = {"version": 1, "hcert": "HC1:", "kid": "", "issued_at": now, "expires_at": now}
        connection.execute(
            insert(certificates),
            [certificate | {"dose_pk": n, "uvci": str(n), "revocation_reason": ""} for n in ids],
        )
        job = dict.fromkeys(("asked_by", "form", "media", "state_reason", "queue", "attempt_id", "witness"), "")
        job |= {"copy_number": 1, "reason": "issued", "site_id": "HN-1", "priority": 50, "fencing_token": 0}
        job |= {"created_at": now, "changed_at": now, "deadline": now}
        due_at = now + timedelta(minutes=10)
        connection.execute(
            insert(print_jobs),
            [
                job
                | {
                    "job_id": str(n),
                    "uvci": str(n),
                    "state": state(n),
                    "next_climb_at": due_at if n % 100 == 0 else None,
                }
                for n in ids
            ],
        )
        connection.execute(text("ANALYZE"))

    store.submit(fill).result()
    return store


def plan_of(store: Store, run: Callable[[Connection], Any], state: str | None = None) -> str:
    """Return the database's plan of the first SELECT that `run` makes, with the very statement and parameters."""
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if "SELECT" in statement.upper() and not seen:
            seen.append((statement, parameters))

    def unit(connection: Connection) -> str:
        event.listen(connection, "before_cursor_execute", note)
        run(connection)
        event.remove(connection, "before_cursor_execute", note)
        statement, parameters = seen[0]
        if state is not None:
            # A plan that is made before the values are known can use a partial index only so.
            assert f"'{state}'" in statement
        explain = "EXPLAIN QUERY PLAN" if store.dialect == "sqlite" else "EXPLAIN"
        rows = connection.exec_driver_sql(f"{explain} {statement}", parameters)
        return "\n".join(" ".join(map(str, row)) for row in rows)

    return store.submit(unit).result()


def test_claiming_waiting_jobs_uses_its_index(full_store: Store, world: Any) -> None:
    values = {"agent_id": "a", "journal_id": "j", "capacity": 5, "now": world.clock.now, "lease_s": 60.0}
    plan = plan_of(full_store, lambda c: leases.claim_waiting(c, "HN-1", **values), "waiting")
    assert "ix_print_jobs_waiting" in plan, plan


def test_expiring_leases_uses_its_index(full_store: Store, world: Any) -> None:
    earlier = world.clock.now - timedelta(seconds=1)  # as at nearly every poll: no lease has run out
    plan = plan_of(full_store, lambda c: leases.expire_leases(c, "HN-1", now=earlier), "leased")
    assert "ix_print_jobs_leased" in plan, plan


def test_taking_back_what_was_never_answered_uses_an_index_that_knows_the_state(full_store: Store) -> None:
    plan = plan_of(full_store, lambda c: job_store.lock_leased_to(c, "HN-1", agent_id="a", journal_id="j"), "leased")
    known = ("ix_print_jobs_leased", "ix_print_jobs_site_state", "ix_print_jobs_open")  # all have the state in them
    assert any(index in plan for index in known), plan


def test_sites_with_waiting_jobs_reads_the_waiting_jobs_alone(full_store: Store) -> None:
    plan = plan_of(full_store, job_store.sites_with_waiting_jobs, "waiting")
    assert "ix_print_jobs_waiting" in plan, plan


def test_the_worklist_uses_its_index(full_store: Store) -> None:
    plan = plan_of(full_store, lambda c: dose_store.held_doses(c, "HN-1"), "held")
    assert "ix_doses_held" in plan, plan


@pytest.mark.parametrize("site_id", [None, "HN-1"])
def test_climbing_reads_the_jobs_that_are_due_alone(full_store: Store, world: Any, site_id: str | None) -> None:
    now = world.clock.now  # as at nearly every poll: no step is due
    plan = plan_of(full_store, lambda c: paper_store.lock_climbing(c, now=now, site_id=site_id, limit=500))
    assert "ix_print_jobs_next_climb_at" in plan, plan


def test_finding_a_document_uses_its_index(full_store: Store) -> None:
    plan = plan_of(full_store, lambda c: job_store.site_prints(c, "HN-1", "0" * 64))
    assert "ix_print_jobs_document_sha256" in plan, plan


def revoke_all(store: Store) -> None:
    """Revoke every certificate, in a run of which one item of 100 is still to be done."""

    def fill(connection: Connection) -> None:
        run = run_store.Run("run", "csv", {}, "a", NOW, ROWS, None)
        assert run_store.insert_run(connection, run)
        ids = range(1, ROWS + 1)
        run_store.insert_items(
            connection, "run", [run_store.Item(n, str(n), RevocationReason.FRAUD) for n in ids]
        )  # fmt: skip
        run_store.end_items(connection, "run", [n for n in ids if n % 100], run_store.REVOKED)
        new = [
            revocation_store.NewRevocation(
                Uvci(str(n)), "", *(hashlib.sha256(bytes([k]) + str(n).encode()).digest()[:16] for k in range(3)),
                NOW, RevocationReason.FRAUD, f"run:{n}",
            )
            for n in ids
        ]  # fmt: skip
        assert len(revocation_store.insert_revocations(connection, new, revoked_by="a", now=NOW)) == ROWS
        connection.execute(text("ANALYZE"))

    store.submit(fill).result()


def test_asking_whether_a_certificate_is_revoked_uses_an_index(full_store: Store) -> None:
    revoke_all(full_store)
    plan = plan_of(full_store, lambda c: revocation_store.find_by_hash(c, bytes(16)))
    assert "ix_revocations_current_uci_hash" in plan, plan
    plan = plan_of(full_store, lambda c: revocation_store.find_current(c, "1"))
    assert "ix_revocations_current_uvci" in plan or "ix_revocations_uvci" in plan, plan


def test_the_next_items_of_a_run_are_found_by_their_index(full_store: Store) -> None:
    revoke_all(full_store)
    plan = plan_of(full_store, lambda c: run_store.open_items(c, "run", limit=9))
    assert "ix_revocation_items_open" in plan or "pk_revocation_items" in plan, plan


def test_what_is_open_in_a_reissue_is_read_from_its_index_alone(full_store: Store) -> None:
    run = reissue_store.Run("run", {}, False, False, "a", NOW, ROWS, None)

    def fill(connection: Connection) -> None:
        reissue_store.insert_run(connection, run)
        item = {"run_id": "run", "new_uvci": None, "problem": ""}
        rows = [
            item | {"line": n, "uvci": str(n), "outcome": "" if n > ROWS - 30 else "issued"} for n in range(1, ROWS)
        ]
        connection.execute(insert(reissue_items), rows)
        connection.execute(text("ANALYZE"))

    full_store.submit(fill).result()
    plan = plan_of(full_store, lambda c: reissue_store.open_items(c, "run", limit=200))
    assert "ix_reissue_items_open" in plan, plan
    chosen = plan_of(full_store, lambda c: reissue_store.standings(c, ["1", "2"]))
    assert "SCAN certificates" not in chosen, chosen
    assert "Seq Scan on certificates" not in chosen, chosen

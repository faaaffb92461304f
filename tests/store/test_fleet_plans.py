"""Reading the health of all sites costs what is open, not what was ever printed; and figures of a large fleet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, event, insert, text

from printsvc.store import fleet as fleet_store
from printsvc.store.engine import Store
from printsvc.store.fleet_tables import OPEN_STATES
from printsvc.store.tables import certificates, doses, print_jobs, sites

NOW = datetime(2021, 10, 30, 3, 0, tzinfo=UTC)
STATES = (*OPEN_STATES, "printed", "confirmed", "canceled")


def _fill(connection: Connection, *, number: int) -> None:
    """Put sites and papers in; of a hundred papers five are open."""
    for n in range(3):
        values = {"site_id": f"S-{n}", "name": "x", "authority": "x", "province": "01", "created_at": NOW}
        connection.execute(insert(sites).values(**values))
    for n in range(number):
        state = STATES[n % len(STATES)] if n % 20 == 0 else "printed"
        site_id = f"S-{n % 3}"
        at = NOW - timedelta(seconds=n)
        dose = {
            "source": "p",
            "dose_id": f"D-{n}",
            "site_id": site_id,
            "person_key": None,
            "event": {},
            "identity": {},
            "outcome": "issued",
            "reasons": [],
            "mark": "",
            "injected_at": at,
            "received_at": at,
            "decided_at": at,
        }
        dose_pk = connection.execute(insert(doses).values(**dose)).inserted_primary_key[0]  # type: ignore[index]
        certificate = {
            "uvci": f"U-{n}",
            "dose_pk": dose_pk,
            "version": 1,
            "hcert": "",
            "kid": "",
            "issued_at": at,
            "expires_at": at,
            "revocation_reason": "",
        }
        connection.execute(insert(certificates).values(**certificate))
        job = {
            "job_id": f"J-{n}",
            "uvci": f"U-{n}",
            "copy_number": 1,
            "reason": "issued",
            "asked_by": "",
            "site_id": site_id,
            "form": "",
            "media": "",
            "priority": 50,
            "state": state,
            "state_reason": "",
            "created_at": at,
            "changed_at": at,
            "fencing_token": 0,
            "queue": "",
            "attempt_id": "",
            "witness": "",
        }
        connection.execute(insert(print_jobs).values(**job))


def test_the_health_of_all_sites_is_read_from_the_small_index(store: Store) -> None:
    number = 400
    store.submit(lambda c: _fill(c, number=number)).result()
    if store.dialect == "postgresql":
        store.submit(lambda c: c.execute(text("ANALYZE print_jobs"))).result()
    seen: list[tuple[str, Any]] = []

    def read(connection: Connection) -> tuple[Any, list[str]]:
        def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
            if "FROM print_jobs" in statement and not statement.startswith("EXPLAIN"):
                seen.append((statement, parameters))

        event.listen(connection, "before_cursor_execute", note)
        fleet = fleet_store.read_fleet(connection)
        event.remove(connection, "before_cursor_execute", note)
        if store.dialect == "postgresql":
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        prefix = "EXPLAIN QUERY PLAN " if store.dialect == "sqlite" else "EXPLAIN "
        plans = [
            " ".join(str(row) for row in connection.exec_driver_sql(prefix + statement, parameters or ()))
            for statement, parameters in seen
        ]
        return fleet, plans

    fleet, plans = store.read_now(read)
    assert len(plans) == 1
    assert "ix_print_jobs_open" in plans[0], plans
    by_state = dict.fromkeys(OPEN_STATES, 0)
    for n in range(0, number, 20):
        if STATES[n % len(STATES)] in by_state:
            by_state[STATES[n % len(STATES)]] += 1
    assert sum(site.waiting for site in fleet) == sum(by_state[s] for s in ("leased", "sent", "waiting"))
    assert sum(site.uncertain for site in fleet) == by_state["uncertain"]
    assert sum(site.failed for site in fleet) == by_state["failed"]
    assert sum(by_state.values()) > 0
    one = store.read_now(lambda c: fleet_store.read_fleet(c, site_id="S-1"))
    assert one == [site for site in fleet if site.site_id == "S-1"]
    assert store.read_now(lambda c: fleet_store.read_fleet(c, site_id="none")) == []
    assert len(store.read_now(lambda c: fleet_store.read_fleet(c, province="01"))) == 3

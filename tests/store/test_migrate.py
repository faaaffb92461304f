"""Migrations: what they make is what the tables say, and they may run twice, or from several processes at once."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from printsvc.errors import StoreError
from printsvc.store import migrate
from printsvc.store.engine import Store
from printsvc.store.fleet_tables import OPEN_STATES
from printsvc.store.tables import metadata


def test_an_upgraded_database_has_the_tables_of_the_code(empty_url: str) -> None:
    with contextlib.closing(Store(empty_url)) as store:
        migrate.upgrade(store)

        def compare(connection: Any) -> list[Any]:
            options = {"compare_type": True, "compare_server_default": True, "render_as_batch": True}
            return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

        assert store.submit(compare).result() == []


def test_partial_indexes_have_their_condition(store: Store) -> None:
    # Alembic does not compare the WHERE of an index.
    query = {
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '%WHERE%'",
        "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE indexdef LIKE '%WHERE%'",
    }[store.dialect]
    conditions = {name: sql.split("WHERE")[1] for name, sql in store.read_now(lambda c: c.execute(text(query)).all())}
    current = {f"ix_revocations_current_{name}" for name in ("uvci", "uci_hash", "country_uci_hash", "signature_hash")}
    assert conditions.keys() == current | {
        "ix_doses_held",
        "ix_print_jobs_waiting",
        "ix_print_jobs_leased",
        "ix_print_jobs_open",
        "uq_alerts_open",
        "ix_print_jobs_document_sha256",
        "ix_print_jobs_next_climb_at",
        "ix_printer_commands_open",
        "ix_revocation_items_open",
        "ix_reissue_items_open",
        "uq_certificates_superseded_by",
        "uq_signers_signing",
        "ix_day_bag_entries_conflicts",
        "ix_day_bag_entries_identity",
    }
    assert all("undone_at IS NULL" in conditions[name] for name in current)
    assert "''" in conditions["ix_revocation_items_open"]
    assert "''" in conditions["ix_reissue_items_open"]
    assert "NOT NULL" in conditions["uq_certificates_superseded_by"]
    assert "'held'" in conditions["ix_doses_held"]
    assert "'waiting'" in conditions["ix_print_jobs_waiting"]
    assert "'leased'" in conditions["ix_print_jobs_leased"]
    assert "NOT NULL" in conditions["ix_print_jobs_document_sha256"]
    assert "NOT NULL" in conditions["ix_print_jobs_next_climb_at"]
    assert all(f"'{state}'" in conditions["ix_print_jobs_open"] for state in OPEN_STATES)
    assert "NULL" in conditions["uq_alerts_open"]
    assert "'signing'" in conditions["uq_signers_signing"]
    assert "ended_at IS NULL" in conditions["ix_printer_commands_open"]


def test_a_second_upgrade_does_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    before = store.read_now(migrate.current_revision)
    with caplog.at_level("INFO", "alembic"):
        assert migrate.upgrade(store) == before == migrate.newest_revision()
    assert "Running upgrade" not in caplog.text
    migrate.check(store)


def test_check_refuses_an_empty_database(empty_url: str) -> None:
    with contextlib.closing(Store(empty_url)) as store, pytest.raises(StoreError):
        migrate.check(store)


def test_check_names_the_command_that_helps(empty_url: str) -> None:
    with contextlib.closing(Store(empty_url)) as store:
        store.submit(lambda c: c.execute(text("CREATE TABLE other (n INTEGER)"))).result()
        with pytest.raises(StoreError, match="printsvc migrate"):
            migrate.check(store)


def test_a_database_of_a_newer_version_is_refused_and_left_alone(store: Store) -> None:
    store.submit(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'"))).result()
    with pytest.raises(StoreError, match="9999"):
        migrate.check(store)
    with pytest.raises(StoreError, match="9999"):
        migrate.upgrade(store)
    assert store.read_now(migrate.current_revision) == "9999"


UPGRADE = """
import sys
from printsvc.store import migrate
from printsvc.store.engine import Store
store = Store(sys.argv[1])
print(migrate.upgrade(store))
store.close()
"""


def test_processes_that_start_together_upgrade_one_after_the_other(postgres: Any) -> None:
    name = postgres.new_database()

    def upgrade(_: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", UPGRADE, postgres.url(name)], capture_output=True, text=True)

    try:
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(upgrade, range(4)))
        assert {(one.returncode, one.stdout.strip()) for one in done} == {(0, migrate.newest_revision())}, done
    finally:
        postgres.drop_database(name)


def test_no_table_has_a_clock_or_a_value_of_the_databases_own() -> None:
    for table in metadata.sorted_tables:
        for column in table.columns:
            assert column.server_default is None, f"{table.name}.{column.name}: the code says what is stored"


def test_signers_of_before_their_life_had_states_go_on(empty_url: str) -> None:
    """The one that is valid longest signed: it goes on, for half a year from its beginning."""
    day = 86_400_000_000
    rows = [("old", 0, 700 * day), ("new", 100 * day, 800 * day), ("short", 0, 50 * day)]
    with contextlib.closing(Store(empty_url)) as store:
        store.submit(lambda c: command.upgrade(migrate._config(c), "0003")).result()
        insert = text(
            "INSERT INTO signers (thumbprint, kid, role, certificate, not_before, not_after, created_at)"
            " VALUES (:name, :name, 'dsc', :der, :begins, :ends, 5)"
        )
        for name, begins, ends in rows:
            values = {"name": name, "der": b"der", "begins": begins, "ends": ends}
            store.submit(lambda c, v=values: c.execute(insert, v)).result()
        migrate.upgrade(store)
        query = text("SELECT thumbprint, state, signing_until, key_store FROM signers ORDER BY thumbprint")
        assert store.read_now(lambda c: [tuple(row) for row in c.execute(query)]) == [
            ("new", "signing", 280 * day, "file"),
            ("old", "verifying", 180 * day, "file"),
            ("short", "verifying", 50 * day, "file"),
        ]
        version = text("SELECT version FROM signers_version")
        assert store.read_now(lambda c: c.execute(version).scalar_one()) == 3

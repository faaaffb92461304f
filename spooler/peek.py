"""What other commands may read of an agent's journal, also while the agent runs with it; they write nothing."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from printsvc.errors import StateError
from spooler.core.attempt import FINAL, Phase
from spooler.journal import Identity, damaged


class NotSetUpError(StateError):
    """There is no journal: this machine's agent never enrolled."""

    code = "not_set_up"


def peek_identity(directory: Path) -> Identity:
    """Return who this agent is, also while it runs. Its token is a secret.

    Raises NotSetUpError where it was never enrolled, JournalDamagedError where the journal cannot be read.
    """
    if not (directory / "journal.id").exists():
        raise _not_enrolled()
    path = directory / "journal.db"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as found:
            row = found.execute("SELECT journal_id, url, agent_id, site_id, token FROM identity").fetchone()
    except sqlite3.DatabaseError as error:
        raise damaged(path, str(error)) from error
    if row is None or not row[4]:
        raise _not_enrolled()
    return Identity(*row)


def _not_enrolled() -> NotSetUpError:
    return NotSetUpError(
        "This agent is not enrolled: printsvc-spooler enroll --code CODE --url URL",
        vi="Chưa đăng ký điểm in này: printsvc-spooler enroll --code MÃ --url ĐỊA_CHỈ",
    )


def peek(directory: Path, *, with_failed: bool = False) -> dict[str, Any]:
    """Return what stands in a journal, also while an agent runs with it: counts, unsettled and uncertain jobs.

    `with_failed`: also those of which certainly no paper came.
    Raises NotSetUpError where there was never one, JournalDamagedError where it cannot be read. The token is not
    among it.
    """
    path = directory / "journal.db"
    # Made together, the marker last: with neither, nothing was ever printed from here.
    if not path.exists() and not (directory / "journal.id").exists():
        raise NotSetUpError(
            f"Not set up yet: there is no journal in {directory}. Enrol this agent first: "
            "printsvc-spooler enroll --code CODE --url URL",
            vi="Chưa thiết lập: hãy đăng ký trước bằng printsvc-spooler enroll --code MÃ --url ĐỊA_CHỈ",
        )
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
    except sqlite3.OperationalError as error:
        raise damaged(path, "missing or not readable") from error
    try:
        identity = connection.execute("SELECT journal_id, url, agent_id, site_id, token <> '' FROM identity").fetchone()
        counts = dict(connection.execute("SELECT phase, count(*) FROM jobs GROUP BY phase"))
        (outbox,) = connection.execute("SELECT count(*) FROM outbox").fetchone()
        jobs = connection.execute(
            "SELECT j.job_id, j.phase, j.attempt_id, a.queue, j.reason "
            'FROM jobs j LEFT JOIN attempts a USING (attempt_id) ORDER BY j."order"'
        ).fetchall()
    except sqlite3.DatabaseError as error:
        raise damaged(path, str(error)) from error
    finally:
        connection.close()
    settled = {phase.value for phase in FINAL} - {Phase.UNCERTAIN.value}
    settled -= {Phase.FAILED.value} if with_failed else set()
    keys = ("job_id", "phase", "attempt_id", "queue", "reason")
    return {
        **dict(zip(("journal_id", "url", "agent_id", "site_id"), identity[:4], strict=True)),
        "enrolled": bool(identity[4]),
        "counts": counts,
        "outbox": outbox,
        "jobs": [dict(zip(keys, row, strict=True)) for row in jobs if row[1] not in settled],
    }


def find_token(directory: Path) -> str:
    """Return the agent's token, "" where there is none, also while an agent runs. It is a secret: never shown."""
    try:
        connection = sqlite3.connect(f"file:{directory / 'journal.db'}?mode=ro", uri=True, timeout=5)
    except sqlite3.OperationalError:
        return ""
    try:
        row = connection.execute("SELECT token FROM identity").fetchone()
    except sqlite3.DatabaseError:
        return ""
    finally:
        connection.close()
    return str(row[0]) if row else ""

"""Sites, tokens, agents, printers and documents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, func, insert, or_, select, update

from printsvc.domain.printer import Printer, PrinterState
from printsvc.domain.site import Site, SiteId
from printsvc.errors import AccessError, NotFoundError
from printsvc.store.doses import insert_or_ignore
from printsvc.store.tables import agents, api_tokens, documents, enrolment_codes, job_events, printers, sites


def digest(secret: str) -> str:
    """Return the SHA-256 that is stored in place of a token or code."""
    return hashlib.sha256(secret.encode()).hexdigest()


# --- sites


def insert_site(connection: Connection, site: Site, *, now: datetime) -> bool:
    """Make a site; return False where its id is taken."""
    values = {
        "site_id": site.site_id,
        "name": site.name,
        "authority": site.authority,
        "province": site.province,
        "created_at": now,
    }
    # RETURNING says it on both databases; PostgreSQL's row count is -1 either way.
    made = insert_or_ignore(connection, sites).values(**values).returning(sites.c.site_id)
    return connection.execute(made).first() is not None


def update_site(connection: Connection, site: Site) -> bool:
    """Change a site's name, authority and province; return False where there is no such site."""
    values = {"name": site.name, "authority": site.authority, "province": site.province}
    return bool(connection.execute(update(sites).where(sites.c.site_id == site.site_id).values(**values)).rowcount)


def list_sites(connection: Connection) -> list[Site]:
    return [_site(row) for row in connection.execute(select(sites).order_by(sites.c.site_id))]


def find_sites(connection: Connection, site_ids: Iterable[str]) -> dict[str, Site]:
    """Return the sites with these ids, those that exist."""
    rows = connection.execute(select(sites).where(sites.c.site_id.in_(set(site_ids))))
    return {row.site_id: _site(row) for row in rows}


def get_site(connection: Connection, site_id: str) -> Site:
    """Return a site. Raises NotFoundError."""
    site = find_sites(connection, [site_id]).get(site_id)
    if site is None:
        raise NotFoundError("There is no such site.", vi="Không có điểm tiêm này.")
    return site


def _site(row: Row[Any]) -> Site:
    return Site(SiteId(row.site_id), row.name, row.authority, row.province)


# --- tokens

TOKEN_ID = 12
"""Characters of a token's digest by which people name it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who holds a token. `role` is platform, admin, site or province; a site's token has its `site_id`, a province's
    its `province`."""

    name: str
    role: str
    site_id: str | None = None
    province: str | None = None


def insert_token(connection: Connection, token: str, caller: Caller, *, now: datetime) -> None:
    """Store the digest of an API token."""
    values = {"token_sha256": digest(token), "name": caller.name, "role": caller.role, "site_id": caller.site_id}
    values |= {"province": caller.province}
    connection.execute(insert_or_ignore(connection, api_tokens).values(**values, created_at=now, revoked_at=None))


def find_caller(connection: Connection, token: str) -> Caller | None:
    """Return who holds this token; None for an unknown or revoked one."""
    query = select(api_tokens).where(api_tokens.c.token_sha256 == digest(token), api_tokens.c.revoked_at.is_(None))
    row = connection.execute(query).first()
    return Caller(row.name, row.role, row.site_id, row.province) if row else None


def list_tokens(connection: Connection) -> list[dict[str, Any]]:
    """Return every token, oldest first: id (the beginning of its digest), role, name, site_id and both times."""
    query = select(api_tokens).order_by(api_tokens.c.created_at, api_tokens.c.token_sha256)
    names = ("role", "name", "site_id", "created_at", "revoked_at")
    return [
        {"id": row.token_sha256[:TOKEN_ID]} | {name: getattr(row, name) for name in names}
        for row in connection.execute(query)
    ]


def revoke_token(connection: Connection, token_id: str, *, now: datetime) -> Caller:
    """End the token whose digest begins so, and return who held it; one that has ended stays as it is.

    Raises NotFoundError where there is none, or more than one.
    """
    wanted = token_id.strip().lower()
    is_id = len(wanted) >= TOKEN_ID and set(wanted) <= set("0123456789abcdef")
    mine = api_tokens.c.token_sha256.startswith(wanted, autoescape=True)
    rows = connection.execute(select(api_tokens).where(mine)).all() if is_id else []
    if len(rows) != 1:
        raise NotFoundError("There is no such token.", vi="Không có mã truy cập này.")
    connection.execute(update(api_tokens).where(mine, api_tokens.c.revoked_at.is_(None)).values(revoked_at=now))
    return Caller(rows[0].name, rows[0].role, rows[0].site_id)


# --- agents


@dataclass(frozen=True, slots=True)
class Agent:
    agent_id: str
    site_id: str
    journal_id: str
    acknowledged: int
    seen_at: datetime | None = None
    version: str = ""
    clock_skew_ms: int | None = None
    protocol: int | None = None


def insert_enrolment_code(
    connection: Connection, code: str, site_id: str, *, now: datetime, expires_at: datetime
) -> None:
    """Store the digest of a one-time code."""
    values = {"code_sha256": digest(code), "site_id": site_id, "created_at": now, "expires_at": expires_at}
    connection.execute(insert(enrolment_codes).values(**values, used_by=None))


def enrol(
    connection: Connection, code: str, *, agent_id: str, token: str, journal_id: str, version: str, now: datetime
) -> Agent:
    """Use up a one-time code and make its agent. Raises AccessError for an unknown, used or expired code.

    The same journal may use its code again, and gets a new token: the line may have been cut before the first answer
    arrived. A journal that a living agent of the site has stays that agent's: it gets a new token and the old one ends,
    so that of two machines with a copied disk one is refused from then on. Another site's journal is refused.
    """
    alive = and_(enrolment_codes.c.code_sha256 == digest(code), enrolment_codes.c.expires_at > now)
    used = connection.execute(
        update(enrolment_codes)
        .where(alive, enrolment_codes.c.used_by.is_(None))
        .values(used_by=agent_id)
        .returning(enrolment_codes.c.site_id)
    ).first()
    if used is None:
        again = connection.execute(
            select(agents)
            .join(enrolment_codes, enrolment_codes.c.used_by == agents.c.agent_id)
            .where(alive, agents.c.journal_id == journal_id, agents.c.revoked_at.is_(None))
        ).first()
        if again is not None:
            update_agent(connection, again.agent_id, token_sha256=digest(token))
            return _agent(again)
        raise AccessError(
            401,
            "The enrolment code is unknown, used or expired: ask an admin for a new one.",
            vi="Mã đăng ký không tồn tại, đã dùng hoặc hết hạn: hãy xin mã mới.",
        )
    known = connection.execute(
        select(agents).where(agents.c.journal_id == journal_id, agents.c.revoked_at.is_(None))
    ).first()
    if known is not None:
        if known.site_id != used.site_id:
            raise AccessError(
                403,
                "This journal belongs to an agent of another site: start with an empty state folder.",
                vi="Nhật ký này thuộc về điểm tiêm khác: hãy bắt đầu với thư mục trạng thái trống.",
            )
        code_used = update(enrolment_codes).where(enrolment_codes.c.code_sha256 == digest(code))
        connection.execute(code_used.values(used_by=known.agent_id))
        update_agent(connection, known.agent_id, token_sha256=digest(token))
        return _agent(known)
    acknowledged = connection.execute(
        select(func.max(job_events.c.seq)).where(job_events.c.journal_id == journal_id)
    ).scalar()
    connection.execute(
        insert(agents).values(
            agent_id=agent_id,
            site_id=used.site_id,
            token_sha256=digest(token),
            journal_id=journal_id,
            acknowledged=acknowledged or 0,
            enrolled_at=now,
            seen_at=None,
            revoked_at=None,
            version=version[:32],
            protocol=None,
            clock_skew_ms=None,
        )
    )
    return Agent(agent_id, used.site_id, journal_id, acknowledged or 0, version=version[:32])


def find_agent(connection: Connection, token: str) -> Agent | None:
    """Return the agent with this token; None for an unknown or revoked one."""
    query = select(agents).where(agents.c.token_sha256 == digest(token), agents.c.revoked_at.is_(None))
    row = connection.execute(query).first()
    return _agent(row) if row else None


def find_agents(connection: Connection, token_digests: Iterable[str]) -> dict[str, Agent]:
    """Return digest of token → agent, of those that are known and not revoked."""
    query = select(agents).where(agents.c.token_sha256.in_(list(token_digests)), agents.c.revoked_at.is_(None))
    return {row.token_sha256: _agent(row) for row in connection.execute(query)}


def write_sightings(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Store when agents were seen: rows of `agent` (its id), `at` and `skew` (ms or None). Never an earlier moment."""
    later = or_(agents.c.seen_at.is_(None), agents.c.seen_at < bindparam("at"))
    statement = update(agents).where(agents.c.agent_id == bindparam("agent"), later)
    connection.execute(statement.values(seen_at=bindparam("at"), clock_skew_ms=bindparam("skew")), rows)


def lock_agent(connection: Connection, agent_id: str) -> Agent:
    """Return the agent; its journal's counter is the caller's until the transaction ends. Raises NotFoundError."""
    row = connection.execute(select(agents).where(agents.c.agent_id == agent_id).with_for_update()).first()
    if row is None:
        raise NotFoundError("There is no such agent.", vi="Không có tác nhân in này.")
    return _agent(row)


def list_agents(connection: Connection, site_id: str | None = None) -> list[Agent]:
    """Return the agents that are not revoked."""
    query = select(agents).where(agents.c.revoked_at.is_(None)).order_by(agents.c.site_id, agents.c.enrolled_at)
    if site_id is not None:
        query = query.where(agents.c.site_id == site_id)
    return [_agent(row) for row in connection.execute(query)]


def update_agent(connection: Connection, agent_id: str, **values: Any) -> None:
    connection.execute(update(agents).where(agents.c.agent_id == agent_id).values(**values))


def _agent(row: Row[Any]) -> Agent:
    return Agent(
        row.agent_id,
        row.site_id,
        row.journal_id,
        row.acknowledged,
        row.seen_at,
        row.version,
        row.clock_skew_ms,
        row.protocol,
    )


# --- printers


@dataclass(frozen=True, slots=True)
class SitePrinter:
    """A queue as its agent last told; `problems` is what the agent's own check found wrong.

    `facts` is what was added later: queued, oldest_s, media_ready.
    """

    site_id: str
    printer: Printer
    marker_levels: tuple[int, ...]
    problems: tuple[str, ...]
    reported_at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)


def replace_printers(connection: Connection, agent: Agent, found: Iterable[SitePrinter]) -> None:
    """Store what an agent told about its queues; those that it no longer has are forgotten."""
    connection.execute(
        delete(printers).where(printers.c.site_id == agent.site_id, printers.c.agent_id == agent.agent_id)
    )
    for one in sorted(found, key=lambda one: one.printer.queue):
        values = {
            "site_id": agent.site_id,
            "agent_id": agent.agent_id,
            "queue": one.printer.queue,
            "uri": one.printer.uri,
            "make_and_model": one.printer.make_and_model,
            "state": int(one.printer.state),
            "state_reasons": list(one.printer.state_reasons),
            "accepting": one.printer.accepting,
            "formats": list(one.printer.formats),
            "marker_levels": list(one.marker_levels),
            "problems": list(one.problems),
            "facts": dict(one.facts),
            "reported_at": one.reported_at,
        }
        connection.execute(insert_or_ignore(connection, printers).values(**values))


def list_printers(connection: Connection, site_id: str | None = None) -> list[SitePrinter]:
    query = select(printers).order_by(printers.c.site_id, printers.c.queue)
    if site_id is not None:
        query = query.where(printers.c.site_id == site_id)
    return [
        SitePrinter(
            site_id=row.site_id,
            printer=Printer(
                queue=row.queue,
                uri=row.uri,
                make_and_model=row.make_and_model,
                state=PrinterState(row.state),
                state_reasons=tuple(row.state_reasons),
                accepting=row.accepting,
                formats=tuple(row.formats),
            ),
            marker_levels=tuple(row.marker_levels),
            problems=tuple(row.problems),
            facts=row.facts or {},
            reported_at=row.reported_at,
        )
        for row in connection.execute(query)
    ]


# --- documents


def insert_document(connection: Connection, body: bytes, *, now: datetime) -> str:
    """Store a PDF and return its SHA-256."""
    sha256 = hashlib.sha256(body).hexdigest()
    values = {"sha256": sha256, "media_type": "application/pdf", "body": body, "created_at": now}
    connection.execute(insert_or_ignore(connection, documents).values(**values))
    return sha256


def find_document(connection: Connection, sha256: str) -> bytes | None:
    body = connection.execute(select(documents.c.body).where(documents.c.sha256 == sha256)).scalar()
    return None if body is None else bytes(body)


def find_document_size(connection: Connection, sha256: str) -> int | None:
    return connection.execute(select(func.length(documents.c.body)).where(documents.c.sha256 == sha256)).scalar()


def delete_documents(connection: Connection, sha256s: Iterable[str]) -> None:
    """Forget documents whose jobs are settled: a page can be drawn again at any time."""
    connection.execute(delete(documents).where(documents.c.sha256.in_(list(sha256s))))

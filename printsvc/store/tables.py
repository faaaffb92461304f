"""The tables. Every column is named in the migrations too; a test compares the two.

Times are integers, microseconds since 1970 UTC: the same order and the same bytes in SQLite and PostgreSQL.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
)
from sqlalchemy.types import JSON

from printsvc.store.times import UtcTime

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMING)

# SQLite gives a row its number only where the key is INTEGER; PostgreSQL needs BIGINT for years of doses.
Serial = BigInteger().with_variant(Integer(), "sqlite")

sites = Table(
    "sites",
    metadata,
    Column("site_id", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("authority", Text, nullable=False),
    Column("province", String(3), nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

doses = Table(
    "doses",
    metadata,
    Column("dose_pk", Serial, primary_key=True, autoincrement=True),
    Column("source", String(64), nullable=False),
    Column("dose_id", String(128), nullable=False),
    Column("site_id", String(64), ForeignKey("sites.site_id"), nullable=False),
    # SHA-256 over nationality, type and number: finds a person's other doses without an index over their numbers.
    Column("person_key", String(64), nullable=True),
    # The event as it was sent, which a replay is compared with; the identity result that counts now stands beside it.
    Column("event", JSON, nullable=False),
    Column("identity", JSON, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("mark", String(32), nullable=False),
    Column("injected_at", UtcTime, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("decided_at", UtcTime, nullable=False),
    UniqueConstraint("source", "dose_id"),
)
Index("ix_doses_person_key", doses.c.person_key)
Index(
    "ix_doses_held",
    doses.c.site_id,
    doses.c.received_at,
    sqlite_where=doses.c.outcome == "held",
    postgresql_where=doses.c.outcome == "held",
)

certificates = Table(
    "certificates",
    metadata,
    Column("uvci", String(80), primary_key=True),
    Column("dose_pk", Serial, ForeignKey("doses.dose_pk"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("hcert", Text, nullable=False),
    Column("kid", String(16), nullable=False),
    Column("issued_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime, nullable=True),
    Column("revocation_reason", Text, nullable=False),
    # The certificate of the same dose that was made in its place; the old one need not be revoked.
    Column("superseded_by", String(80), nullable=True),
    Column("superseded_at", UtcTime, nullable=True),
    UniqueConstraint("dose_pk", "version"),
)
Index(
    "uq_certificates_superseded_by",
    certificates.c.superseded_by,
    unique=True,
    sqlite_where=certificates.c.superseded_by.is_not(None),
    postgresql_where=certificates.c.superseded_by.is_not(None),
)
# What is under a signer, and until when: counted before the signer ends, listed when it is to be issued again.
Index("ix_certificates_kid_expires_at", certificates.c.kid, certificates.c.expires_at)

documents = Table(
    "documents",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("media_type", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

print_jobs = Table(
    "print_jobs",
    metadata,
    Column("job_id", String(32), primary_key=True),
    Column("uvci", String(80), ForeignKey("certificates.uvci"), nullable=False),
    Column("copy_number", Integer, nullable=False),
    Column("reason", String(16), nullable=False),
    Column("asked_by", String(64), nullable=False),
    Column("site_id", String(64), ForeignKey("sites.site_id"), nullable=False),
    Column("form", String(64), nullable=False),
    Column("media", String(64), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("state_reason", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    # Who holds it: a job that was once leased goes to the same journal again, which knows what became of it.
    Column("holder_agent", String(32), nullable=True),
    Column("holder_journal", String(64), nullable=True),
    Column("fencing_token", Integer, nullable=False),
    Column("deadline", UtcTime, nullable=True),
    Column("document_sha256", String(64), nullable=True),
    Column("queue", String(128), nullable=False),
    Column("attempt_id", String(96), nullable=False),
    Column("witness", String(16), nullable=False),
    # What the printer itself last answered; since when the person waits, and when the job climbs next.
    Column("impressions", Integer, nullable=True),
    Column("printer_said", String(64), nullable=True),
    *(Column(name, UtcTime, nullable=True) for name in ("printer_said_at", "clock_from", "next_climb_at")),
    UniqueConstraint("uvci", "copy_number"),
)
Index(
    "ix_print_jobs_waiting",
    print_jobs.c.site_id,
    print_jobs.c.priority.desc(),
    print_jobs.c.created_at,
    sqlite_where=print_jobs.c.state == "waiting",
    postgresql_where=print_jobs.c.state == "waiting",
)
Index(
    "ix_print_jobs_leased",
    print_jobs.c.site_id,
    print_jobs.c.deadline,
    sqlite_where=print_jobs.c.state == "leased",
    postgresql_where=print_jobs.c.state == "leased",
)
Index(
    "ix_print_jobs_document_sha256",
    print_jobs.c.document_sha256,
    sqlite_where=print_jobs.c.document_sha256.is_not(None),
    postgresql_where=print_jobs.c.document_sha256.is_not(None),
)
Index("ix_print_jobs_site_state", print_jobs.c.site_id, print_jobs.c.state)

job_events = Table(
    "job_events",
    metadata,
    Column("event_pk", Serial, primary_key=True, autoincrement=True),
    Column("job_id", String(32), nullable=False),
    Column("event", String(16), nullable=False),
    Column("before", String(16), nullable=False),
    Column("after", String(16), nullable=False),
    Column("applied", Boolean, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("journal_id", String(64), nullable=True),
    Column("seq", BigInteger, nullable=True),
    Column("fencing_token", Integer, nullable=False),
    Column("attempt_id", String(96), nullable=False),
    Column("queue", String(128), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("witness", String(16), nullable=False),
    Column("impressions", Integer, nullable=True),
    Column("printer_said", String(64), nullable=True),
    Column("printer_said_at", UtcTime, nullable=True),
    UniqueConstraint("journal_id", "seq"),
)
Index("ix_job_events_job_id", job_events.c.job_id)

enrolment_codes = Table(
    "enrolment_codes",
    metadata,
    Column("code_sha256", String(64), primary_key=True),
    Column("site_id", String(64), ForeignKey("sites.site_id"), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("used_by", String(32), nullable=True),
)

agents = Table(
    "agents",
    metadata,
    Column("agent_id", String(32), primary_key=True),
    Column("site_id", String(64), ForeignKey("sites.site_id"), nullable=False),
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("journal_id", String(64), nullable=False),
    Column("acknowledged", BigInteger, nullable=False),
    Column("enrolled_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=True),
    Column("revoked_at", UtcTime, nullable=True),
    Column("version", String(32), nullable=False),
    Column("protocol", Integer, nullable=True),
    Column("clock_skew_ms", BigInteger, nullable=True),
    Column("line", JSON, nullable=True),  # what went over its line: see store/lines.py
)
Index("ix_agents_site_id", agents.c.site_id)

printers = Table(
    "printers",
    metadata,
    Column("site_id", String(64), ForeignKey("sites.site_id"), primary_key=True),
    Column("queue", String(128), primary_key=True),
    Column("agent_id", String(32), nullable=False),
    Column("uri", Text, nullable=False),
    Column("make_and_model", Text, nullable=False),
    Column("state", Integer, nullable=False),
    Column("state_reasons", JSON, nullable=False),
    Column("accepting", Boolean, nullable=False),
    Column("formats", JSON, nullable=False),
    Column("marker_levels", JSON, nullable=False),
    Column("problems", JSON, nullable=False),
    Column("facts", JSON, nullable=True),
    Column("reported_at", UtcTime, nullable=False),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("site_id", String(64), nullable=True),
    Column("province", String(3), nullable=True),
    Column("created_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime, nullable=True),
)

signers = Table(
    "signers",
    metadata,
    Column("thumbprint", String(64), primary_key=True),
    Column("kid", String(16), nullable=False),
    Column("role", String(8), nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("not_before", UtcTime, nullable=False),
    Column("not_after", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("signing_from", UtcTime, nullable=False),
    Column("signing_until", UtcTime, nullable=False),
    Column("key_store", String(16), nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    Column("reason", Text, nullable=False),
)
Index("ix_signers_kid", signers.c.kid)
# The database itself refuses a second signer that signs at the centre; every mobile site may have a delegate.
_SIGNING_HERE = and_(signers.c.state == "signing", signers.c.role != "delegate")
Index(
    "uq_signers_signing",
    signers.c.role,
    unique=True,
    sqlite_where=_SIGNING_HERE,
    postgresql_where=_SIGNING_HERE,
)

# One row: it counts the changes of `signers`, so that a process sees by one number whether there is anything new.
signers_version = Table(
    "signers_version",
    metadata,
    Column("signers_version_pk", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
)

signer_events = Table(
    "signer_events",
    metadata,
    Column("event_pk", Serial, primary_key=True, autoincrement=True),
    Column("thumbprint", String(64), nullable=False),
    Column("event", String(16), nullable=False),
    Column("before", String(16), nullable=False),
    Column("after", String(16), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("reason", Text, nullable=False),
)
Index("ix_signer_events_thumbprint", signer_events.c.thumbprint)

revocations = Table(
    "revocations",
    metadata,
    Column("revocation_pk", Serial, primary_key=True, autoincrement=True),
    Column("uvci", String(80), ForeignKey("certificates.uvci"), nullable=False),
    Column("kid", String(16), nullable=False),
    # The first 16 bytes of SHA-256: what verifiers ask by.
    Column("uci_hash", LargeBinary, nullable=False),
    Column("country_uci_hash", LargeBinary, nullable=False),
    Column("signature_hash", LargeBinary, nullable=False),
    Column("reason", String(24), nullable=False),
    Column("revoked_at", UtcTime, nullable=False),
    Column("revoked_by", String(64), nullable=False),
    # The certificate's own end: later than that nobody needs to know of the revocation.
    Column("expires_at", UtcTime, nullable=False),
    # A retry has the same one, and finds what it did before, even where that was undone since.
    Column("request_id", String(128), nullable=False, unique=True),
    # Counts every revocation and every undoing in the order in which they were committed.
    Column("change", BigInteger, nullable=False, unique=True),
    Column("undone_at", UtcTime, nullable=True),
    Column("undone_by", String(64), nullable=False),
    Column("undo_reason", String(24), nullable=False),
)
_CURRENT = revocations.c.undone_at.is_(None)
for _name, _column, _unique in (
    ("uvci", revocations.c.uvci, True),
    ("uci_hash", revocations.c.uci_hash, False),
    ("country_uci_hash", revocations.c.country_uci_hash, False),
    ("signature_hash", revocations.c.signature_hash, False),
):
    Index(
        f"ix_revocations_current_{_name}",
        _column,
        unique=_unique,
        sqlite_where=_CURRENT,
        postgresql_where=_CURRENT,
    )
Index("ix_revocations_uvci", revocations.c.uvci)
Index("ix_revocations_kid_revocation_pk", revocations.c.kid, revocations.c.revocation_pk)

revocation_runs = Table(
    "revocation_runs",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("kind", String(8), nullable=False),
    # What was asked: the query, or how many lines the file had. Never a line of it.
    Column("asked", JSON, nullable=False),
    Column("asked_by", String(64), nullable=False),
    Column("begun_at", UtcTime, nullable=False),
    Column("total", Integer, nullable=False),
    Column("ended_at", UtcTime, nullable=True),
)

revocation_items = Table(
    "revocation_items",
    metadata,
    Column("run_id", String(64), ForeignKey("revocation_runs.run_id"), primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("uvci", String(80), ForeignKey("certificates.uvci"), nullable=False),
    Column("reason", String(24), nullable=False),
    # Empty until it is done, then what came of it: it is written in the transaction that revokes.
    Column("outcome", String(8), nullable=False),
)
Index(
    "ix_revocation_items_open",
    revocation_items.c.run_id,
    revocation_items.c.line,
    sqlite_where=revocation_items.c.outcome == "",
    postgresql_where=revocation_items.c.outcome == "",
)

revocation_snapshots = Table(
    "revocation_snapshots",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("made_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("bucket_bits", Integer, nullable=False),
    Column("count", BigInteger, nullable=False),
    # The last of `revocations.change` that is in it.
    Column("change", BigInteger, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    # What leads here from the version before; None where the layout is another.
    Column("delta", LargeBinary, nullable=True),
    # The newest version alone has it.
    Column("body", LargeBinary, nullable=True),
)

reissue_runs = Table(
    "reissue_runs",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("asked", JSON, nullable=False),
    Column("is_printed", Boolean, nullable=False),
    Column("revokes_old", Boolean, nullable=False),
    Column("asked_by", String(64), nullable=False),
    Column("begun_at", UtcTime, nullable=False),
    Column("total", Integer, nullable=False),
    Column("ended_at", UtcTime, nullable=True),
)

reissue_items = Table(
    "reissue_items",
    metadata,
    Column("run_id", String(64), ForeignKey("reissue_runs.run_id"), primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("uvci", String(80), ForeignKey("certificates.uvci"), nullable=False),
    # Empty until it is done, then what came of it: it is written in the transaction that stores the new certificate.
    Column("outcome", String(8), nullable=False),
    Column("new_uvci", String(80), ForeignKey("certificates.uvci"), nullable=True),
    Column("problem", String(64), nullable=False),
)
Index(
    "ix_reissue_items_open",
    reissue_items.c.run_id,
    reissue_items.c.line,
    sqlite_where=reissue_items.c.outcome == "",
    postgresql_where=reissue_items.c.outcome == "",
)

# The ledger: one row for each transaction of a run, written in it.
reissue_chunks = Table(
    "reissue_chunks",
    metadata,
    Column("run_id", String(64), ForeignKey("reissue_runs.run_id"), primary_key=True),
    Column("chunk", Integer, primary_key=True),
    Column("first_line", Integer, nullable=False),
    Column("last_line", Integer, nullable=False),
    Column("kid", String(16), nullable=False),
    *(Column(name, Integer, nullable=False) for name in ("issued", "already", "revoked", "failed", "papers")),
    Column("seconds", Float, nullable=False),
    Column("stored_at", UtcTime, nullable=False),
)

# Trust lists of others: one source is one list; its keys are replaced together.
trust_sources = Table(
    "trust_sources",
    metadata,
    Column("source", String(64), primary_key=True),
    Column("list_format", String(16), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("signed_by", Text, nullable=False),
    Column("version", BigInteger, nullable=True),
    Column("made_at", UtcTime, nullable=True),
    Column("imported_at", UtcTime, nullable=False),
    Column("imported_by", String(64), nullable=False),
    Column("skipped", JSON, nullable=False),
)

trusted_keys = Table(
    "trusted_keys",
    metadata,
    Column("source", String(64), ForeignKey("trust_sources.source"), primary_key=True),
    Column("fingerprint", String(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("format", String(16), nullable=False),
    Column("kid", Text, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("certificate", LargeBinary, nullable=True),
    Column("not_before", UtcTime, nullable=True),
    Column("not_after", UtcTime, nullable=True),
    Column("country", String(2), nullable=False),
    Column("issuer", Text, nullable=False),
    Column("usages", JSON, nullable=False),
    Column("is_anchor", Boolean, nullable=False),
)

trust_events = Table(
    "trust_events",
    metadata,
    Column("event_pk", Serial, primary_key=True, autoincrement=True),
    Column("source", String(64), nullable=False),
    Column("event", String(16), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("signed_by", Text, nullable=False),
    Column("added", Integer, nullable=False),
    Column("removed", Integer, nullable=False),
    Column("unchanged", Integer, nullable=False),
)
Index("ix_trust_events_source", trust_events.c.source)

# A version and the digest of what it counts; also the last position of what is published below.
trust_lists = Table(
    "trust_lists",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("changed_at", UtcTime, nullable=False),
)

published_certificates = Table(
    "published_certificates",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("kid", String(64), nullable=False),
    Column("thumbprint", String(64), nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    UniqueConstraint("kid", "thumbprint"),
)

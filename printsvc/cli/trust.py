"""trust: whom verifiers believe. Importing the lists of others, exporting ours, fetching one to hold offline."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from printsvc.cli.remote import DEFAULT_URL, Remote, with_remote
from printsvc.cli.tables import show_table as _table

FORMATS = ("printsvc", "eu", "de", "icao", "did", "jwks", "vci", "certificates")
EXPORTS = {"json": "", "jws": ".jws", "eu": ".eu.json", "der": ".p7b"}
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def trust() -> None:
    """Trust lists: ours, and those of others that codes are verified against."""


@trust.command("list")
@click.argument("source", required=False)
@with_remote
def list_sources(remote: Remote, source: str | None) -> None:
    """List the imported lists, or the keys of one."""
    if source is None:
        found = remote.call("GET", "/v1/trust-sources")["sources"]
        rows = [
            [s["source"], s["format"], s["keys"], s["imported_at"], s["imported_by"], s["signed_by"]] for s in found
        ]
        _table("Imported", ["source", "format", "keys", "at", "by", "signed by"], rows, "No list was imported.")
        return
    found = remote.call("GET", f"/v1/trust-sources/{quote(source, safe='')}")
    rows = [[k["format"], k["kid"], k["country"], k["not_after"] or "", k["issuer"]] for k in found["keys"]]
    _table(source, ["format", "kid", "country", "until", "issuer"], rows, "This list has no key.")
    rows = [[e["at"], e["event"], e["actor"], e["added"], e["removed"], e["unchanged"]] for e in found["events"]]
    _table("History", ["at", "what", "by", "added", "removed", "unchanged"], rows, "")


@trust.command("import")
@click.argument("source")
@click.argument("file", type=_FILE)
@click.option("--format", "list_format", type=click.Choice(FORMATS), required=True, help="What the file is.")
@click.option("--pin", "pins", type=_FILE, multiple=True, help="Certificates (PEM) whose signatures are believed.")
@click.option("--anchor", "anchors", type=_FILE, multiple=True, help="eu: the trust anchor's certificate (PEM).")
@click.option("--key", type=_FILE, help="de: the public key (PEM) of the list's signature.")
@click.option("--unsigned", is_flag=True, help="The list carries no signature: needs --sha256.")
@click.option("--sha256", default="", help="What the file's SHA-256 must be, hexadecimal.")
@click.option("--issuer", default="", help="jwks: the https address of the issuer whose keys these are.")
@click.option(
    "--for", "key_format", type=click.Choice(["hcert", "vds-nc"]), default="hcert", help="certificates: what for."
)
@click.option("--skip-unusable", is_flag=True, help="Leave out entries whose key or certificate cannot be used.")
@click.option("--dry-run", is_flag=True, help="Tell what would change, and change nothing.")
@with_remote
def import_list(remote: Remote, source: str, file: Path, **given: Any) -> None:
    """Import FILE as the list SOURCE, in place of what that had: all of it, or nothing."""
    body = {
        "format": given["list_format"],
        "content": base64.b64encode(file.read_bytes()).decode("ascii"),
        "pins": [_pem(path) for path in given["pins"]],
        "anchors": [_pem(path) for path in given["anchors"]],
        "public_key": _pem(given["key"]) if given["key"] else "",
        "key_format": given["key_format"],
    }
    body |= {name: given[name] for name in ("unsigned", "sha256", "issuer", "skip_unusable", "dry_run")}
    done = remote.call("POST", f"/v1/trust-sources/{quote(source, safe='')}", body)
    for sign, name in (("+", "added"), ("-", "removed")):
        for key in done[name]:
            click.echo(f"{sign} {key['format']}  {key['kid']}  {key['country']}  {key['issuer']}".rstrip())
    for skipped in done["skipped"]:
        click.echo(f"! {skipped['pointer']}: {skipped['en']} / {skipped['vi']}")
    told = f"{len(done['added'])} added, {len(done['removed'])} removed, {done['unchanged']} unchanged"
    click.echo(f"{source}: {told}, {len(done['skipped'])} left out{' (dry run)' if done['dry_run'] else ''}")


@trust.command("export")
@click.option("--format", "name", type=click.Choice(sorted(EXPORTS)), default="jws", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.  [standard output]")
@with_remote
def export_list(remote: Remote, name: str, out: Path | None) -> None:
    """Write our trust list: signed (jws), plain (json), as the EU gateway has it (eu), or as a bundle (der: PKCS#7)."""
    raw = remote.fetch(f"/v1/trust-list{EXPORTS[name]}")
    if out is None:
        sys.stdout.buffer.write(raw)
        return
    _replace(out, raw)
    click.echo(f"{out}: {len(raw)} bytes")


@trust.command("remove")
@click.argument("source")
@with_remote
def remove(remote: Remote, source: str) -> None:
    """Take the list SOURCE away: its keys are believed no more."""
    done = remote.call("DELETE", f"/v1/trust-sources/{quote(source, safe='')}")
    click.echo(f"{source}: {done['removed']} keys removed")


@trust.command("fetch")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--pin", "pins", type=_FILE, multiple=True, required=True, help="The CSCA's certificate (PEM).")
@click.option("--url", default=DEFAULT_URL, envvar="PRINTSVC_URL", show_default=True, help="Whose list.")
def fetch(file: Path, pins: tuple[Path, ...], url: str) -> None:
    """Fetch a service's signed trust list into FILE, to verify offline with.

    The list is refused, and FILE left as it is, where the signature is not the pinned one's, the list is stale, or
    older than the one in FILE.
    """
    from printsvc.clock import clock
    from printsvc.credential.trustsigned import read_signed_list

    pinned = pinned_certificates(pins)
    raw = Remote(url, "").fetch("/v1/trust-list.jws")
    signed = read_signed_list(raw, pins=pinned, now=clock(), known_version=_version_in(file, pinned))
    _replace(file, raw)
    click.echo(
        f"{file}: version {signed.trust.version}, {len(signed.trust.certificates)} signers, "
        f"good until {signed.expires_at.isoformat()}"
    )


def pinned_certificates(paths: tuple[Path, ...]) -> list[bytes]:
    """Return the certificates (DER) of files. Raises InputError that names the file."""
    from printsvc.credential.trustimport import read_pins

    return [der for path in paths for der in read_pins(path.read_bytes(), str(path))]


def _version_in(file: Path, pinned: list[bytes]) -> int | None:
    """Return the version of the list that is there; one that is stale or broken by now still counts."""
    from printsvc.credential.trustsigned import read_version

    return read_version(file.read_bytes(), pins=pinned) if file.exists() else None


def _pem(path: Path) -> str:
    """Return a file as PEM text; a certificate in DER is put into it."""
    raw = path.read_bytes()
    if raw.startswith(b"0"):
        return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(raw).decode()}-----END CERTIFICATE-----\n"
    return raw.decode("utf-8", "replace")


def _replace(path: Path, raw: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as opened:
        opened.write(raw)
        opened.flush()
        os.fsync(opened.fileno())
    temporary.replace(path)


COMMANDS = (trust,)

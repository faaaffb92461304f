"""verify: is this certificate genuine and valid?"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click


def _trust(path: Path | None, url: str | None, pins: tuple[Path, ...]) -> Any:
    """Return the trust list of a file, of a service, or (neither named, none running) of this machine's own keys."""
    from printsvc.cli.remote import DEFAULT_URL, Remote
    from printsvc.credential.trust import TrustList
    from printsvc.errors import UnavailableError

    if path is not None:
        return _trust_file(path, pins)
    try:
        return TrustList.from_json(Remote(url or DEFAULT_URL, "").call("GET", "/v1/trusted-keys"))
    except UnavailableError:
        if url is not None:
            raise
        own = _own_keys()
        if own is None:
            raise UnavailableError(
                f"No service answers at {DEFAULT_URL}, and this machine has no signing keys: name a trust list with "
                "--trust FILE, or a service with --url.",
                vi="Không có dịch vụ nào trả lời và máy này không có khóa ký: hãy dùng --trust TỆP hoặc --url.",
            ) from None
        return own


def _trust_file(path: Path, pins: tuple[Path, ...]) -> Any:
    """Return the trust list of a file: a signed list under `pins`; JSON of /v1/trusted-keys, or PEM certificates."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from printsvc.credential.batch import ring_of
    from printsvc.credential.sealing import is_authority
    from printsvc.credential.trust import TrustList, make_trust_list
    from printsvc.errors import CredentialError

    raw = path.read_bytes()
    if pins:
        from printsvc.cli.trust import pinned_certificates
        from printsvc.clock import clock
        from printsvc.credential.trustsigned import read_signed_list

        return read_signed_list(raw, pins=pinned_certificates(pins), now=clock()).trust
    try:
        if b"-----BEGIN CERTIFICATE-----" in raw:
            ders = [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(raw)]
            listed = make_trust_list(ders, version=0, made_at=datetime.fromtimestamp(path.stat().st_mtime, UTC))
            authorities = tuple(der for der in ders if is_authority(der))
            return replace(listed, keys=ring_of(listed.certificates), authorities=authorities)
        return TrustList.from_json(json.loads(raw))
    except (ValueError, RecursionError):
        raise CredentialError(
            f"{path} is neither a trust list (JSON) nor PEM certificates.",
            vi=f"{path} không phải danh sách tin cậy (JSON) hay chứng thư PEM.",
            code="trust_list_invalid",
        ) from None


def _own_keys() -> Any:
    """Return a trust list of the signers whose keys are in the data folder; None where there are none."""
    from dataclasses import replace

    from printsvc.clock import clock
    from printsvc.credential.trust import make_trust_list
    from printsvc.settings import read_settings

    # dsc-<kid>.der, as store/keyfile writes them: certificates are public, no passphrase is asked.
    folder = read_settings().data_dir / "keys"
    found, above = ([one.read_bytes() for one in sorted(folder.glob(name))] for name in ("dsc-*.der", "csca*.der"))
    return replace(make_trust_list(found, version=0, made_at=clock()), authorities=tuple(above)) if found else None


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--trust", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Trust list: JSON or PEM.")
@click.option(
    "--pin",
    "pins",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="Certificate (PEM) of the CSCA that a signed --trust list (trust fetch) must be under.",
)
@click.option(
    "--revocations",
    "snapshot",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="List of revocations (revocations snapshot).",
)
@click.option(
    "--tsa-ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    envvar="PRINTSVC_SEAL_TSA_CA",
    help="Certificates (PEM) of whose time stamps on seals are believed (PRINTSVC_SEAL_TSA_CA).",
)
@click.option("--url", envvar="PRINTSVC_URL", help="Service to take the trust list from (PRINTSVC_URL).")
@click.option("--at", "at_text", help="Verify as of this time (ISO 8601) instead of now.")
@click.option("--batch", is_flag=True, help="Read NDJSON lines from standard input, answer a line for each.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a code.")
def verify(
    files: tuple[Path, ...],
    trust: Path | None,
    pins: tuple[Path, ...],
    snapshot: Path | None,
    tsa_ca: Path | None,
    url: str | None,
    at_text: str | None,
    batch: bool,
    as_json: bool,
) -> None:
    """Verify the codes in FILES: a text, PNG, JPEG or PDF, of any format that is read; - is standard input.

    Signers are believed when they are on the trust list: that of --trust, or of the service at --url. With neither, the
    service on this machine is asked, and where none runs, the keys in its data folder.

    Revocation is looked up in the list of --revocations (a hit is asked at --url, where that is given), or asked of the
    same service, or of the database in the data folder; where there is none of these, the verdict says so.

    Of a PDF also its seal (believed under the CSCAs of the trust list, or --pin) and whether the printed text is what
    the code says.

    Exit code 0 when every code is valid and nothing speaks against its file, 1 when something does, 2 when something
    cannot be read. With --batch, 0 whatever the verdicts are.
    """
    from printsvc.cli.trust import pinned_certificates
    from printsvc.clock import clock
    from printsvc.credential.batch import parse_instant

    try:
        now = parse_instant(at_text) if at_text else clock()
    except ValueError:
        raise click.BadParameter("not a time in ISO 8601", param_hint="--at") from None
    if batch:
        _batch(trust, pins, snapshot, url, now)
        return
    if not files:
        raise click.UsageError("Name a file, or - for standard input.")
    from printsvc.cli.book import not_asked, revocation_book
    from printsvc.errors import PrintsvcError
    from printsvc.flows.verify import is_sound, verify_file

    worst = 0
    trusted = _trust(trust, url, pins)
    seals: dict[str, Any] = {
        "pins": pinned_certificates(pins) if pins else (),
        "stamp_authorities": pinned_certificates((tsa_ca,)) if tsa_ca else (),
    }
    book = revocation_book(snapshot, url=url, trust=trusted, has_list=trust is not None, many=False)
    silence = not_asked(book)
    for path in files:
        try:
            body = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
            verdicts = verify_file(body, trust=trusted, now=now, revocations=book, forms=_forms(), **seals)
        except OSError as error:
            worst = 2
            click.echo(f"{path}: {error.strerror}", err=True)
            continue
        except PrintsvcError as error:
            worst = 2
            click.echo(f"{path}: {error.en} / {error.vi}", err=True)
            continue
        for verdict in verdicts:
            if not is_sound(verdict):
                worst = max(worst, 1)
            if as_json:
                asked = {"revocation_checked": silence is None}
                click.echo(json.dumps({"file": str(path)} | verdict | asked, ensure_ascii=False))
            else:
                _print(path, verdict)
                if silence is not None and verdict["verdict"] == "valid":
                    click.echo(f"  {silence[1]} / {silence[0]}")
                _print_file(verdict)
    sys.exit(worst)


def _forms() -> Iterator[Any]:
    """Yield the forms that a PDF's text is compared by; nothing is read before the first is asked for."""
    from printsvc.render.formfile import read_sound_forms
    from printsvc.settings import read_settings

    yield from read_sound_forms(read_settings().templates_dir)


def _clean(value: Any) -> str:
    """Return text fit for a terminal: a forged code may hold anything, also sequences that steer the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(value))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _print(path: Path, verdict: dict[str, Any]) -> None:
    click.echo(f"{path}: {verdict['verdict']}")
    click.echo(f"  {_clean(verdict['detail_vi'])} / {_clean(verdict['detail'])}")
    claims = _object(verdict.get("claims"))
    person = _object(claims.get("person"))
    if any(person.values()):
        click.echo(_clean(f"  {person.get('name') or '?'}, {person.get('date_of_birth') or '?'}"))
    for dose in map(_object, _list(claims.get("doses"))):
        number = f"{dose.get('number') or '?'}/{dose.get('series') or '?'}"
        words = (dose.get("product"), number, dose.get("date"), dose.get("country"), dose.get("issuer"))
        click.echo("  " + "  ".join(_clean(word) for word in words if word is not None))
    for entry in map(_object, _list(_object(claims.get("hcert")).get("v"))):
        click.echo(f"  {_clean(entry.get('ci'))}")
    if claims:
        form = _clean(verdict.get("format"))
        click.echo(f"  {form}  {_clean(claims.get('issuer'))}: {claims.get('issued_at')} – {claims.get('expires_at')}")


def _print_file(verdict: dict[str, Any]) -> None:
    """Print what is told of a PDF: its seal, and how its text and its code go together."""
    seal, text = _object(verdict.get("seal")), _object(verdict.get("text"))
    if seal:
        click.echo(f"  seal / dấu số: {seal['state']}")
        click.echo(f"    {_clean(seal['detail_vi'])} / {_clean(seal['detail'])}")
        if seal.get("signer"):
            stamp = f"time stamp / dấu thời gian: {seal['timestamp']}"
            click.echo(f"    {_clean(seal['signer'])}  {seal['sealed_at']}  {stamp}")
    if text:
        click.echo(f"  text / chữ in: {text['state']}")
        click.echo(f"    {_clean(text['detail_vi'])} / {_clean(text['detail'])}")


def _batch(trust: Path | None, pins: tuple[Path, ...], snapshot: Path | None, url: str | None, now: Any) -> None:
    from printsvc.cli.book import revocation_book
    from printsvc.credential.trust import make_trust_list
    from printsvc.errors import PrintsvcError

    try:
        trusted = _trust(trust, url, pins)
    except PrintsvcError:
        if trust is not None or url is not None:
            raise
        # No service here: lines that bring their own certificates can be judged all the same.
        trusted = make_trust_list([], version=0, made_at=now)
    book = revocation_book(snapshot, url=url, trust=trusted, has_list=trust is not None, many=True)
    for raw in _lines(sys.stdin.buffer):
        line = raw.decode("utf-8", errors="surrogateescape").rstrip("\r\n")
        if line.strip("\ufeff \t\r\n\v\f"):
            click.echo(json.dumps(_verdict_on(line, trusted, now, book)))


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield each line; of one that is too long its beginning alone, which is no JSON, so that it takes no memory."""
    from printsvc.credential.batch import MAX_LINE

    while raw := stream.readline(MAX_LINE):
        yield raw
        while len(raw) == MAX_LINE and not raw.endswith(b"\n"):
            raw = stream.readline(MAX_LINE)


def _verdict_on(line: str, trusted: Any, now: Any, book: Any) -> dict[str, Any]:
    from printsvc.credential.batch import verify_line

    try:
        answer = verify_line(line, trust=trusted, now=now, revocations=book)
        return answer if book is not None else answer | {"revocation_checked": False}
    except Exception:  # a verifier at a gate must get an answer for the next line, whatever this one is
        return {"id": None, "verdict": "malformed", "detail": "The line cannot be judged."}


COMMANDS = (verify,)

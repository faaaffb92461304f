"""keys: the signers, from the first CSCA to the last day of a DSC."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from printsvc.cli.desk import Desk, OpenDesk, with_desk

if TYPE_CHECKING:
    from printsvc.domain.signer import SignerRecord
    from printsvc.flows.keymaking import Authority
    from printsvc.settings import Settings

_DAY_OR_MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"])


@click.group()
def keys() -> None:
    """Signing keys: CSCA, document signers, and their lives."""
    import os

    os.umask(0o077)


def _tell(as_json: bool, document: dict[str, Any], *lines: tuple[str, str]) -> None:
    """Print the document, or its lines in English and Vietnamese."""
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    for en, vi in lines:
        click.echo(en)
        click.echo(f"  {vi}")


def _csca_options(function: Any) -> Any:
    for option in (
        click.option("--organisation", default="Cục Y tế dự phòng", show_default=True, help="In the certificate."),
        click.option("--name", help="Common name in the certificate."),
    ):
        function = option(function)
    return _csca_place_options(function)


def _csca_place_options(function: Any) -> Any:
    for option in (
        click.option(
            "--csca-passphrase-file",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="What opens the CSCA's key.  [as the other key files]",
        ),
        click.option(
            "--csca-dir",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder of the CSCA's key, say on a medium locked away.  [keys/ in the data folder]",
        ),
    ):
        function = option(function)
    return function


def _plan_options(function: Any) -> Any:
    for option in (
        click.option("--from", "begins", type=_DAY_OR_MOMENT, help="Signs from this day (UTC).  [no gap, no overlap]"),
        click.option("--days", type=click.IntRange(1, 181), help="Signs for so many days.  [180]"),
        click.option(
            "--store",
            "key_store",
            type=click.Choice(["file", "pkcs11"]),
            help="Where the key is made.  [pkcs11 where PRINTSVC_PKCS11_MODULE is set, else file]",
        ),
        click.option("--algorithm", type=click.Choice(["ES256", "PS256"]), default="ES256", show_default=True),
        click.option(
            "--usage",
            "usages",
            multiple=True,
            type=click.Choice(["t", "v", "r"]),
            default=("v",),
            help="What it may sign: test, vaccination, recovery.  [v]",
        ),
    ):
        function = option(function)
    return _csca_options(function)


@keys.command("init-csca")
@_csca_options
@with_desk
def init_csca(settings: Settings, desk: OpenDesk, as_json: bool, **csca: Any) -> None:
    """Make the country's signing authority, once, and register its certificate. Run again, it changes nothing."""
    from printsvc.clock import clock
    from printsvc.flows.keymaking import make_authority
    from printsvc.flows.keys import compromised_certificates

    folder, passphrase = _csca_place(settings, csca)
    with folder.locked(), desk() as opened:
        authority, new = make_authority(
            folder,
            passphrase,
            country=settings.country,
            organisation=csca["organisation"],
            common_name=csca["name"] or f"CSCA {settings.country}",
            now=clock(),
            random_bytes=_random_bytes(),
            without=compromised_certificates(_records(opened)),
        )
        document = opened.register(authority.certificate, "file", None, None)
    kid = document["thumbprint"][:16]
    said = ("made", "đã tạo") if new else ("is there already", "đã có sẵn")
    _tell(
        as_json,
        {"signer": document, "made": new},
        (
            f"CSCA {kid} {said[0]}, valid until {document['not_after']}: {folder.folder}",
            f"CSCA {kid} {said[1]}, có hiệu lực đến {document['not_after']}",
        ),
        (
            "Keep its key and passphrase apart from the service; it is needed only to plan signers.",
            "Hãy cất khóa và mật khẩu của CSCA tách khỏi máy chủ; chỉ cần khi lập kế hoạch khóa ký.",
        ),
    )


@keys.command("plan")
@_plan_options
@with_desk
def plan(settings: Settings, desk: OpenDesk, as_json: bool, **wanted: Any) -> None:
    """Make the next document signer and publish it: it signs when its time comes, without a restart.

    Its period follows on that of the last one. Run again after a kill, it completes what was begun; where that time is
    planned already, it changes nothing.
    """
    with desk() as opened:
        document, new = _plan(settings, opened, wanted)
    kid = document["thumbprint"][:16]
    period = (document["signing_from"], document["signing_until"])
    if new:
        line = (
            f"Signer {kid} signs from {period[0]} until {period[1]}; valid until {document['not_after']}.",
            f"Khóa ký {kid} ký từ {period[0]} đến {period[1]}; có hiệu lực đến {document['not_after']}.",
        )
    else:
        line = (
            f"Planned already: {kid} from {period[0]} until {period[1]}; nothing was changed.",
            f"Đã có kế hoạch: {kid} từ {period[0]} đến {period[1]}; không thay đổi gì.",
        )
    _tell(as_json, {"signer": document, "made": new}, line, *_cut_short(document))


def _cut_short(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Say that the last certificates of a signer would not count for 12 months: nothing outlives its signer."""
    from printsvc.credential.life import CERTIFICATE_VALIDITY
    from printsvc.flows.keys import record_of_document

    record = record_of_document(document)
    left = record.not_after - record.signing_until
    if left >= CERTIFICATE_VALIDITY:
        return []
    return [
        (
            f"Its last certificates count for {left.days} days, not for 12 months: plan it nearer to its time.",
            f"Giấy ký cuối kỳ chỉ có hiệu lực {left.days} ngày thay vì 12 tháng: hãy lập kế hoạch gần ngày ký hơn.",
        )
    ]


@keys.command("rotate")
@click.option("--to", metavar="KID", help="The planned signer to change to.  [the next one; made if none is]")
@_plan_options
@with_desk
def rotate(settings: Settings, desk: OpenDesk, as_json: bool, to: str | None, **wanted: Any) -> None:
    """Let the next signer sign from now on. Services go on without a pause; what was signed stays good.

    With --to it may be repeated: a signer that signs already is left alone.
    """
    from printsvc.clock import clock
    from printsvc.credential.life import find_signing, next_planned
    from printsvc.flows.keys import get_record

    with desk() as opened:
        records = _records(opened)
        before = find_signing(records)
        if to is not None:
            thumbprint = get_record(records, to).thumbprint
        else:
            planned = next_planned(records, clock())
            if planned is None:
                document, _ = _plan(settings, opened, wanted | {"begins": None}, at_once=True)
                thumbprint = document["thumbprint"]
            else:
                thumbprint = planned.thumbprint
        document = opened.start(thumbprint)
    kid, old = document["thumbprint"][:16], before.kid if before else None
    instead = (f" in place of {old}", f" thay cho {old}") if old and old != kid else ("", "")
    _tell(
        as_json,
        {"signer": document, "before": old},
        (
            f"Signer {kid} signs now{instead[0]}, until {document['signing_until']}.",
            f"Khóa ký {kid} đang ký{instead[1]}, đến {document['signing_until']}.",
        ),
    )


@keys.command("seal")
@_csca_place_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def seal(as_json: bool, **csca: Any) -> None:
    """Make the key that seals digital copies, under the CSCA; services find it within the hour, without a restart.

    Where there is one with more than 400 days left, it changes nothing. `serve` makes it by itself where the CSCA's key
    is among the other key files.
    """
    from printsvc.app import key_folder, passphrase
    from printsvc.cli.desk import read_admin_settings
    from printsvc.clock import clock
    from printsvc.flows.keymaking import find_authority, no_authority
    from printsvc.flows.seal import open_seal_key, seal_documents

    now, settings = clock(), read_admin_settings()
    own = key_folder(settings)
    place, opened_by = _csca_place(settings, csca)
    authority = find_authority(place, opened_by, now)
    if authority is None:
        raise no_authority()
    before = {one["thumbprint"] for one in seal_documents(own, now)}
    open_seal_key(own, passphrase(settings, own), now=now, random_bytes=_random_bytes(), authority=authority)
    document = next(one for one in seal_documents(own, now) if one["state"] == "sealing")
    new = document["thumbprint"] not in before
    said = ("made", "đã tạo") if new else ("is there already", "đã có sẵn")
    kid = document["thumbprint"][:16]
    _tell(
        as_json,
        {"seal": document, "made": new},
        (
            f"Seal {kid} {said[0]}, valid until {document['not_after']}.",
            f"Khóa đóng dấu số {kid} {said[1]}, có hiệu lực đến {document['not_after']}.",
        ),
    )


@keys.command("list-signer")
@_csca_place_options
@with_desk
def list_signer(settings: Settings, desk: OpenDesk, as_json: bool, **csca: Any) -> None:
    """Make the key that signs the trust list, under the CSCA; services find it within a minute, without a restart.

    Where there is one with more than 60 days left, it changes nothing. `serve` makes it by itself where the CSCA's key
    is among the other key files.
    """
    from printsvc.app import key_folder, passphrase
    from printsvc.clock import clock
    from printsvc.flows.keymaking import find_authority, no_authority
    from printsvc.flows.keys import compromised_certificates
    from printsvc.flows.trust import list_signer_document, open_list_signer

    now, own = clock(), key_folder(settings)
    place, opened_by = _csca_place(settings, csca)
    with desk() as opened:
        compromised = compromised_certificates(_records(opened))
    authority = find_authority(place, opened_by, now, without=compromised)
    if authority is None:
        raise no_authority()
    before = {one.certificate for one in own.read()}
    signer = open_list_signer(
        own,
        passphrase(settings, own),
        now=now,
        random_bytes=_random_bytes(),
        authority=authority,
        compromised=compromised,
    )
    assert signer is not None
    document = list_signer_document(signer.certificate)
    new = signer.certificate not in before
    said = ("made", "đã tạo") if new else ("is there already", "đã có sẵn")
    kid = document["thumbprint"][:16]
    _tell(
        as_json,
        {"list_signer": document, "made": new},
        (
            f"List signer {kid} {said[0]}, valid until {document['not_after']}.",
            f"Khóa ký danh sách tin cậy {kid} {said[1]}, có hiệu lực đến {document['not_after']}.",
        ),
    )


@keys.command("list")
@with_desk
def list_keys(settings: Settings, desk: OpenDesk, as_json: bool) -> None:
    """List the signers: states, periods, and how many certificates stand under each."""
    from printsvc.cli.tables import show_table as _table

    with desk() as opened:
        answer = opened.overview()
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False))
        return
    columns = ["kid", "country", "role", "state", "signs from", "signs until", "valid until", "key", "certificates"]
    rows = [
        [
            s["thumbprint"][:16],
            s["country"],
            s["role"],
            s["state"],
            s["signing_from"],
            s["signing_until"],
            s["not_after"],
            s["key_store"],
            s["certificates"],
        ]
        for s in answer["signers"]
    ]
    rows += [
        [s["thumbprint"][:16], "", s["role"], s["state"], s["not_before"], s["not_after"], s["not_after"], "file", ""]
        for s in answer.get("seals", ())
    ]
    if (one := answer.get("list_signer")) is not None:
        kid, begins, ends = one["thumbprint"][:16], one["not_before"], one["not_after"]
        rows.append([kid, "", one["role"], "signing", begins, ends, ends, one["key_store"], ""])
    _table("Signers", columns, rows, "There is no signer. / Chưa có khóa ký nào.")
    for alarm in answer["alarms"]:
        kid, what = alarm["thumbprint"][:16], alarm["ending"]
        vi = "thời gian ký" if what == "signing" else "hiệu lực"
        click.echo(f"{kid}: {what} ends in {alarm['days']} days / {vi} còn {alarm['days']} ngày")


@keys.command("stale")
@click.argument("kid")
@with_desk
def stale(settings: Settings, desk: OpenDesk, as_json: bool, kid: str) -> None:
    """Count, by site, the certificates that stop being valid where signer KID ends."""
    with desk() as opened:
        answer = opened.stale(kid)
    _tell(as_json, answer, *_stale_lines(answer))


@keys.command("compromise")
@click.argument("kid")
@click.option("--reason", required=True, help="What happened; it stays in the ledger. No names of persons.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_desk
def compromise(settings: Settings, desk: OpenDesk, as_json: bool, kid: str, reason: str, yes: bool) -> None:
    """End the trust in signer KID for good: it leaves the trust list, and nothing that it signed is believed.

    First tells how many certificates that is, by site. The next planned signer takes over at once. Without --yes
    it asks; with --json and without --yes it only counts.
    """
    with desk() as opened:
        answer = opened.stale(kid)
        if not yes:
            _tell(as_json, answer | {"done": False}, *_stale_lines(answer))
            if as_json:
                return
            click.confirm("End the trust in this signer for good? / Chấm dứt tin cậy khóa này?", abort=True)
        answer = opened.compromise(answer["signer"]["thumbprint"], reason)
    signing = answer["signing"]
    after = (
        (f"Signer {signing['thumbprint'][:16]} signs now.", f"Khóa ký {signing['thumbprint'][:16]} đang ký.")
        if signing
        else (
            "Nobody signs now: printsvc keys rotate makes a signer.",
            "Không còn khóa nào đang ký: hãy chạy printsvc keys rotate.",
        )
    )
    _tell(
        as_json,
        answer | {"done": True},
        *(_stale_lines(answer) if yes else ()),
        ("The signer is compromised: it is off the trust list.", "Khóa ký đã bị lộ: đã rút khỏi danh sách tin cậy."),
        after,
        *(_reissue_lines(answer) if answer["certificates"] else ()),
    )


def _reissue_lines(answer: dict[str, Any]) -> list[tuple[str, str]]:
    command = f"printsvc reissue --signer {answer['signer']['thumbprint'][:16]}"
    return [(f"Its certificates must be issued again: {command}", f"Cần cấp lại các giấy đã ký: {command}")]


def _stale_lines(answer: dict[str, Any]) -> list[tuple[str, str]]:
    total, kid = answer["certificates"], answer["signer"]["thumbprint"][:16]
    lines = [(f"{total} valid certificates under {kid}.", f"{total} giấy còn hiệu lực do {kid} ký.")]
    return lines + [
        (f"{site['site_id']}: {site['certificates']}", f"Điểm tiêm {site['site_id']}: {site['certificates']} giấy")
        for site in answer["sites"]
    ]


def _records(desk: Desk) -> list[SignerRecord]:
    from printsvc.flows.keys import record_of_document

    return [record_of_document(document) for document in desk.overview()["signers"]]


def _plan(
    settings: Settings, desk: Desk, given: dict[str, Any], *, at_once: bool = False
) -> tuple[dict[str, Any], bool]:
    """Return the signer that is planned for the time that is wanted, and whether it was made now."""
    from printsvc.app import key_folder, open_key_stores
    from printsvc.clock import clock
    from printsvc.credential.dsc import Usage
    from printsvc.credential.keys import Algorithm
    from printsvc.flows.keymaking import Wanted, default_period, find_planned, make_signer
    from printsvc.flows.keys import signer_document

    if "v" not in given["usages"]:
        raise click.UsageError("--usage v must be among the usages: the service issues vaccination certificates.")
    now = clock()
    stores = open_key_stores(settings)
    store = stores[given["key_store"] or ("pkcs11" if settings.pkcs11_module else "file")]
    folder = key_folder(settings)
    with folder.locked():
        records = _records(desk)
        begins, ends = default_period([] if at_once else records, now, given["days"])
        if given["begins"] is not None:
            length = ends - begins
            begins = max(given["begins"].replace(tzinfo=UTC), now.replace(microsecond=0))
            ends = begins + length
        there = None if at_once else find_planned(records, begins)
        if there is not None:
            return signer_document(there), False
        folder.clear_half_written(known={f"dsc-{record.kid}" for record in records})
        certificate = make_signer(
            store,
            _authority(settings, desk, given, records, now),
            Wanted(
                begins,
                ends,
                algorithm=Algorithm[given["algorithm"]],
                usages=tuple(Usage(usage) for usage in given["usages"]),
                organisation=given["organisation"],
                common_name=given["name"] or f"DSC {settings.country} {begins:%Y-%m}",
            ),
            known=records,
            now=now,
            random_bytes=_random_bytes(),
        )
        return desk.register(certificate, store.name, begins, ends), True


def _authority(
    settings: Settings, desk: Desk, given: dict[str, Any], records: list[SignerRecord], now: datetime
) -> Callable[[], Authority]:
    from printsvc.flows.keymaking import find_authority, no_authority
    from printsvc.flows.keys import compromised_certificates

    def find() -> Authority:
        folder, passphrase = _csca_place(settings, given)
        authority = find_authority(folder, passphrase, now, without=compromised_certificates(records))
        if authority is None:
            raise no_authority()
        if authority.certificate not in {record.certificate for record in records}:
            desk.register(authority.certificate, "file", None, None)  # init-csca was killed before it could
        return authority

    return find


def _csca_place(settings: Settings, given: dict[str, Any]) -> tuple[Any, bytes]:
    """Return the folder of the CSCA's key, and what opens it."""
    from printsvc.app import key_folder, passphrase
    from printsvc.store.keyfile import KeyFolder

    folder = KeyFolder(given["csca_dir"]) if given["csca_dir"] else key_folder(settings)
    if given["csca_passphrase_file"]:
        return folder, given["csca_passphrase_file"].read_bytes().strip()
    return folder, passphrase(settings, key_folder(settings))


def _random_bytes() -> Callable[[int], bytes]:
    import os

    return os.urandom


COMMANDS = (keys,)

"""Packed messages: what was packed comes out again, nonsense is an error, and a certificate takes few bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.credential.base45 import encode_base45, parse_base45
from printsvc.credential.hcert import encode_hcert
from printsvc.credential.keys import LocalSigner, make_csca, make_dsc, make_private_key
from printsvc.domain.uvci import group_uvci, make_uvci
from spooler import compact
from spooler import protocol as p
from spooler.compact import codec
from spooler.compact.page import lengthen, shorten
from spooler.compact.words import known_words

ROOT = Path(__file__).parents[2]
NOW = datetime(2021, 10, 30, 2, 12, tzinfo=UTC)


def made_up_page() -> dict[str, Any]:
    """A page as the service words it, with a code that was signed over its claims."""
    csca_key, key = make_private_key(), make_private_key()
    csca = make_csca(csca_key, country="VN", organisation="MOH", common_name="CSCA", serial=1, now=NOW)
    dsc = make_dsc(
        key.public_key(), csca=csca, csca_key=csca_key, organisation="MOH", common_name="DSC", serial=2, now=NOW
    )
    uvci = make_uvci("VN", bytes(range(16)))
    dose = {"tg": "840539006", "vp": "1119349007", "mp": "EU/1/20/1528", "ma": "ORG-100030215", "dn": 2, "sd": 2}
    dose |= {"dt": "2021-10-30", "co": "VN", "is": "Bộ Y tế Việt Nam", "ci": uvci}
    name = {"fn": "NGUYỄN", "fnt": "NGUYEN", "gn": "THỊ MINH KHAI", "gnt": "THI<MINH<KHAI"}
    page = json.loads((ROOT / "templates/a4/43-2022/sample.json").read_text())
    return page | {
        "qr": encode_hcert(
            {"ver": "1.3.0", "nam": name, "dob": "1985-04-12", "v": [dose]},
            issuer="Bộ Y tế Việt Nam",
            issued_at=NOW,
            expires_at=NOW + timedelta(days=365),
            signer=LocalSigner(dsc, key),
        ),
        "uvci": uvci,
        "uvci_groups": group_uvci(uvci),
        "id_label": "CCCD / ID card",
        "nationality": "Việt Nam / Vietnam",
        "rows": [None, page["rows"][1] | {"site": page["site_name"]}, *[None] * 5],
    }


SAMPLE = made_up_page()
DIGEST = "ab" * 32

FIRST, LAST = (datetime(year, 1, 1) for year in (1971, 2099))  # noqa: DTZ001 - hypothesis wants them without a zone
MOMENTS = st.datetimes(FIRST, LAST, timezones=st.just(UTC))
HEX = st.binary(min_size=4, max_size=40).map(bytes.hex)
TEXTS = st.one_of(st.text(max_size=30), HEX, HEX.map(str.upper), st.just("HC1:" + "A" * 20), st.just(SAMPLE["qr"]))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)),
    max_leaves=20,
)
EVENTS = st.builds(
    p.Event,
    seq=st.integers(1, 2**40),
    kind=st.sampled_from(p.EventKind),
    job_id=HEX,
    fencing_token=st.integers(0, 10**6),
    attempt_id=st.one_of(TEXTS, st.builds("ps-{}-{}-{}".format, HEX, st.integers(0, 99), st.integers(1, 9))),
    at=MOMENTS,
    queue=TEXTS,
    reason=TEXTS,
    impressions=st.one_of(st.none(), st.integers(0, 9)),
)
LEASES = st.builds(
    p.LeaseRequest,
    journal_id=HEX,
    capacity=st.integers(0, 1000),
    wait_s=st.floats(0, 120),
    agent_time=st.one_of(st.none(), MOMENTS),
    holding=st.lists(st.builds(p.Held, job_id=HEX, fencing_token=st.integers(0, 99)), max_size=3).map(tuple),
    printers=st.lists(st.builds(p.PrinterReport, queue=TEXTS, uri=TEXTS), max_size=2).map(tuple),
    counts=st.one_of(st.none(), st.builds(p.LineCounts, bytes_up=st.integers(0, 2**50))),
)


def page(**changes: Any) -> dict[str, Any]:
    return json.loads(json.dumps(SAMPLE)) | changes


def leased(number: int = 1, **changes: Any) -> p.LeasedJob:
    digest = hashlib.sha256(b"%d" % number).hexdigest()
    return p.LeasedJob(
        job_id=p.JobId(digest[:32]),
        fencing_token=1,
        deadline=NOW + timedelta(seconds=number),
        document=p.Document(sha256=digest, size=25_000 + number),
        form="a4/43-2022",
        form_digest=DIGEST,
        data=page(**changes),
    )


def answer(*jobs: p.LeasedJob) -> p.LineAnswer:
    return p.LineAnswer(lease=p.LeaseAnswer(server_time=NOW, jobs=jobs, line=1))


def test_known_words_stay_what_they_are() -> None:
    """Whoever changes them cannot talk to a release that has the others: add a new number instead."""
    assert {number: hashlib.sha256(known_words(number)).hexdigest() for number in range(1, compact.NEWEST + 1)} == {
        1: "55b3fe2151184f763858a65898419d43d54a8f960f3aa3e00283db6588b9c719"
    }
    assert len(set(codec.KEYS)) == len(codec.KEYS)
    assert (
        hashlib.sha256(" ".join(codec.KEYS[:89]).encode()).hexdigest()
        == "a9f7c8b4720707e5088d72db5e1b4e0798166030e0853e8277e5cdf6b1820cef"
    ), "keys are added at the end only"


@given(lease=st.one_of(st.none(), LEASES), events=st.lists(EVENTS, max_size=4))
def test_requests_come_out_as_they_went_in(lease: p.LeaseRequest | None, events: list[p.Event]) -> None:
    sent = p.LineRequest(lease=lease, report=p.ReportRequest(journal_id="j", events=tuple(events)))
    assert p.LineRequest.model_validate(compact.unpack(compact.pack(sent))) == sent


@given(data=st.dictionaries(st.text(max_size=12).filter(lambda key: key != "qr"), JSON, max_size=5))
def test_data_of_any_shape_come_out_as_they_went_in(data: dict[str, Any]) -> None:
    sent = answer(leased().model_copy(update={"data": data}))
    assert p.LineAnswer.model_validate(compact.unpack(compact.pack(sent))) == sent


@given(
    changes=st.dictionaries(st.sampled_from([*SAMPLE, "lot", "new"]), TEXTS, max_size=4),
    drop=st.sets(st.sampled_from([*SAMPLE])),
)
def test_a_page_is_what_it_was_however_it_is_worded(changes: dict[str, Any], drop: set[str]) -> None:
    whole = {name: value for name, value in page(**changes).items() if name not in drop}
    short = shorten(whole)
    assert short is None or lengthen(short) == whole
    sent = answer(leased().model_copy(update={"data": whole}))
    assert p.LineAnswer.model_validate(compact.unpack(compact.pack(sent))) == sent


def test_a_code_travels_as_what_it_was_made_of_or_as_it_is() -> None:
    zipped = parse_base45(SAMPLE["qr"][4:])
    other = "HC1:" + encode_base45(zlib.compress(zlib.decompress(zipped), 1))
    for code in (SAMPLE["qr"], other, "HC1:", "HC1:not base45", SAMPLE["qr"] + "A"):
        sent = answer(leased(qr=code))
        assert p.LineAnswer.model_validate(compact.unpack(compact.pack(sent))) == sent


def test_site_words_are_needed_where_they_were_used() -> None:
    sent = answer(leased(1), leased(2))
    assert sent.lease is not None
    words = compact.site_words(sent.lease)
    packed = compact.pack(sent, site_words=words)
    assert p.LineAnswer.model_validate(compact.unpack(packed, site_words=words)) == sent
    with pytest.raises(compact.ProtocolError):
        compact.unpack(packed)
    plain = compact.pack(sent)
    assert p.LineAnswer.model_validate(compact.unpack(plain, site_words=b"of another site")) == sent


@given(data=st.binary(max_size=200))
def test_nonsense_is_an_error(data: bytes) -> None:
    for body in (data, b"\x01" + data):
        with contextlib.suppress(compact.ProtocolError):
            assert isinstance(compact.unpack(body), dict)


@given(cut=st.integers(0, 10_000), flip=st.integers(0, 10_000))
def test_a_message_that_is_cut_or_changed_is_an_error_or_another_message(cut: int, flip: int) -> None:
    packed = compact.pack(answer(leased()))
    with pytest.raises(compact.ProtocolError):
        compact.unpack(packed[: cut % len(packed)])
    with pytest.raises(compact.ProtocolError):
        compact.unpack(packed + b"\0")
    changed = bytearray(packed)
    changed[flip % len(packed)] ^= 0xFF
    with contextlib.suppress(compact.ProtocolError):
        assert isinstance(compact.unpack(bytes(changed)), dict)


def test_a_bomb_is_stopped() -> None:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"\x01" + squeezer.compress(bytes(50_000_000)) + squeezer.flush()
    with pytest.raises(compact.ProtocolError):
        compact.unpack(bomb)


def test_a_token_goes_before_the_message() -> None:
    token = "ps_" + "0f" * 32
    assert compact.split_request(compact.join_request(token, b"packed")) == (token, b"packed")
    for other in ("", "ps_", "secret-token", "ps_" + "0F" * 32, "ps_" + "0f" * 31, "0f" * 32):
        with pytest.raises(ValueError, match=r"token|hex"):
            compact.join_request(other, b"packed")
    with pytest.raises(compact.ProtocolError):
        compact.split_request(bytes(32))


def test_a_certificate_takes_few_bytes() -> None:
    """Beside these are some 110 bytes of HTTP headers for each exchange: see docs/line.md."""
    sent = answer(leased(7))
    assert sent.lease is not None
    assert len(compact.pack(sent, site_words=compact.site_words(sent.lease))) <= 480
    assert len(json.dumps(sent.model_dump(mode="json"))) > 2_000
    job = leased(7)
    events = tuple(
        p.Event(seq=seq, kind=kind, job_id=job.job_id, fencing_token=1, at=NOW, queue="lp1", witness=witness,
                attempt_id=p.attempt_id(job.job_id, 1, 1))
        for seq, kind, witness in ((8, p.EventKind.SUBMITTED, ""), (9, p.EventKind.PRINTED, "printer"))
    )  # fmt: skip
    assert len(compact.pack(p.LineRequest(report=p.ReportRequest(journal_id=DIGEST[:32], events=events)))) <= 100
    assert len(compact.pack(p.LineAnswer(report=p.ReportAnswer(acknowledged=9)))) <= 12

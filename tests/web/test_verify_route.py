"""POST /v1/verify: texts, pictures, nonsense."""

from __future__ import annotations

import io
import json
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from printsvc_api_harness import Api

from printsvc.credential import base45
from printsvc.credential.trust import TrustList
from printsvc.flows.verify import verify_request
from printsvc.render.qr import encode_qr


async def verdict(api: Api, data: Any, media: str) -> Any:
    return await api.call("POST", "/v1/verify", data=data, headers={"Content-Type": media}, by=None)


async def test_a_code_is_judged_as_json_and_as_text(api: Api) -> None:
    issued = await api.issue()
    code = issued["certificate"]["hcert"]
    for answer in (
        await api.call("POST", "/v1/verify", {"code": code}, by=None),
        await verdict(api, code.encode() + b"\n", "text/plain"),
    ):
        assert (answer.status, answer.body["verdict"]) == (200, "valid")
        assert answer.body["claims"]["hcert"]["v"][0]["ci"] == issued["uvci"]
        assert answer.body["detail"] != answer.body["detail_vi"]
    raw = bytearray(zlib.decompress(base45.parse_base45(code.removeprefix("HC1:"))))
    raw[-1] ^= 1
    turned = "HC1:" + base45.encode_base45(zlib.compress(bytes(raw)))
    forged = await api.call("POST", "/v1/verify", {"code": turned}, by=None)
    assert forged.body["verdict"] == "bad_signature"
    api.world.clock.now += timedelta(days=366)
    assert (await api.call("POST", "/v1/verify", {"code": code}, by=None)).body["verdict"] == "expired"


async def test_a_request_is_judged_as_a_line_of_a_batch(api: Api) -> None:
    code = (await api.issue())["certificate"]["hcert"]
    for more, expected in (
        ({"at": "2040-01-01T00:00:00Z"}, "expired"),
        ({"at": "2020-01-01T00:00:00Z"}, "not_yet_valid"),
        ({"at": "junk"}, "malformed"),
        ({"certificates": []}, "unknown_signer"),
        ({"certificates": ["AAAA"]}, "unknown_signer"),
        ({"id": "x-1"}, "valid"),
    ):
        answer = await api.call("POST", "/v1/verify", {"code": code} | more, by=None)
        assert (answer.status, answer.body["verdict"]) == (200, expected), more
        assert answer.body.get("id") == more.get("id")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "PDF"])
async def test_a_picture_is_judged(api: Api, kind: str) -> None:
    issued = await api.issue()
    drawn = Image.open(io.BytesIO(encode_qr(issued["certificate"]["hcert"]).png()))
    picture = ImageOps.expand(drawn.resize((drawn.width * 6, drawn.height * 6), Image.Resampling.NEAREST), 24, 255)
    out = io.BytesIO()
    picture.save(out, kind)
    media = "application/pdf" if kind == "PDF" else f"image/{kind.lower()}"
    answer = await verdict(api, out.getvalue(), media)
    assert (answer.status, answer.body.get("verdict")) == (200, "valid"), answer.body


@pytest.mark.parametrize("code", ["", "HC1:", "hello", None, 5, [], {}, "HC1:" + "A" * 100_000, "\ud800", "\0"])
async def test_a_code_of_nonsense_is_a_verdict(api: Api, code: Any) -> None:
    answer = await api.call("POST", "/v1/verify", data=json.dumps({"code": code}).encode(), by=None)
    assert answer.status == 200
    assert answer.body["verdict"] in ("malformed", "not_a_certificate")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"5", b"{}", b"\xff", b"[" * 100_000])
async def test_a_body_without_a_code_is_refused(api: Api, data: bytes) -> None:
    answer = await verdict(api, data, "application/json")
    assert answer.status == 422
    assert answer.body["errors"][0]["vi"] != answer.body["errors"][0]["en"]


@pytest.mark.parametrize("media", ["text/plain", "image/png", "image/jpeg", "application/pdf"])
@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n broken", b"%PDF-1.7 broken", b"\xff\xd8\xff broken"])
async def test_a_file_with_nothing_to_read_is_422(api: Api, media: str, data: bytes) -> None:
    answer = await verdict(api, data, media)
    assert answer.status == 422
    assert answer.body["detail"] != answer.body["detail_vi"]


@pytest.mark.parametrize("media", ["text/plain", "image/png", "image/jpeg", "application/pdf"])
async def test_words_are_no_certificate_whatever_they_are_called(api: Api, media: str) -> None:
    answer = await verdict(api, b"hello", media)
    assert (answer.status, answer.body["verdict"]) == (200, "not_a_certificate")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(code=st.text() | st.binary().map(lambda raw: "HC1:" + raw.hex().upper()))
def test_no_code_makes_the_verifier_fail(code: str) -> None:
    now = datetime(2021, 10, 30, tzinfo=UTC)
    answer = verify_request({"code": code}, trust=TrustList(0, now, ()), now=now)
    assert answer["verdict"] in ("malformed", "not_a_certificate")

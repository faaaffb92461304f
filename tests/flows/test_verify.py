"""Verifying a file: every code in it gets its verdict."""

from __future__ import annotations

from datetime import datetime

import pytest

from printsvc.credential.trust import TrustList
from printsvc.errors import ScanError
from printsvc.flows.verify import verify_file, verify_request

NOW = datetime.fromisoformat("2021-10-30T02:12:00+00:00")
NOBODY = TrustList(0, NOW, ())


def test_a_text_that_looks_like_a_code_gets_a_verdict() -> None:
    (verdict,) = verify_file(b" HC1:NONSENSE \n", trust=NOBODY, now=NOW)
    assert verdict["verdict"] == "malformed"
    assert verdict["detail"] != verdict["detail_vi"]


@pytest.mark.parametrize(
    "body", [b"", b" \n", b"\xff\xfe", b"\xef\xbb\xbf", b"hello\x00", b"%PDF-1.7 broken", b"\x89PNG\r\n\x1a\n"]
)
def test_where_there_is_no_code_it_says_so_in_both_languages(body: bytes) -> None:
    with pytest.raises(ScanError) as caught:
        verify_file(body, trust=NOBODY, now=NOW)
    assert caught.value.vi != caught.value.en


@pytest.mark.parametrize(
    "text", ["hello", "hc1:ABC", "Xin chào\n", "HC2:ABC", "https://example.org/?HC1:", "\ufeffhello"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_words_that_are_no_code_get_a_verdict_too(text: str, encoding: str) -> None:
    (verdict,) = verify_file(text.encode(encoding), trust=NOBODY, now=NOW)
    assert verdict["verdict"] == "not_a_certificate"


def test_a_code_that_an_editor_saved_in_utf_16_is_read() -> None:
    (verdict,) = verify_file("HC1:NONSENSE\r\n".encode("utf-16"), trust=NOBODY, now=NOW)
    assert verdict["verdict"] == "malformed"


@pytest.mark.parametrize("code", [None, 5, [], {}, True, 1e300, "\ud800"])
def test_a_request_is_judged_whatever_its_code_is(code: object) -> None:
    assert verify_request({"code": code}, trust=NOBODY, now=NOW)["verdict"] == "not_a_certificate"
    assert verify_request({}, trust=NOBODY, now=NOW)["verdict"] == "malformed", "as in a batch"

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from printsvc.credential.limits import MAX_JSON_DEPTH, MAX_JSON_ITEMS
from printsvc.credential.strictjson import parse_base64url, parse_json
from printsvc.errors import CodeError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=30,
)


@given(VALUES)
def test_what_json_writes_is_read(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1,]",
        "{} {}",
        "nul",
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e999",
        "[-1e999]",
        "1" * 25,
        '{"a":1,"a":1}',
        '{"a":{"b":1,"c":2,"b":1}}',
        '"\\ud800"',
        '{"\\udfff":1}',
        '["a",["\\ud800"]]',
        "[" * 100_000,
        '{"a":' * 100_000,
        b"\xff",
        b'"\xed\xa0\x80"',
        "\ud800",
        "'a'",
        "// a\n1",
    ],
)
def test_refused(text: str | bytes) -> None:
    with pytest.raises(CodeError) as caught:
        parse_json(text)
    assert caught.value.step == "structure"
    assert caught.value.en != caught.value.vi


def test_depth_and_items() -> None:
    deep = MAX_JSON_DEPTH + 1
    assert parse_json("[" * deep + "]" * deep)
    with pytest.raises(CodeError, match="deeply"):
        parse_json("[" * (deep + 1) + "]" * (deep + 1))
    assert len(parse_json(json.dumps([0] * MAX_JSON_ITEMS))) == MAX_JSON_ITEMS
    for much in ([0] * (MAX_JSON_ITEMS + 1), {str(n): 0 for n in range(MAX_JSON_ITEMS + 1)}, [[0] * 1200, [0] * 1200]):
        with pytest.raises(CodeError, match="many"):
            parse_json(json.dumps(much))


@given(st.binary(max_size=80))
def test_base64url(data: bytes) -> None:
    padded = base64.urlsafe_b64encode(data).decode()
    assert parse_base64url(padded) == parse_base64url(padded.rstrip("=")) == data


@pytest.mark.parametrize("text", ["A", "AB CD", "AB\n", "AB+/", "AB==C", "AQIDBB", "AB=", "é", "\ud800", "====="])
def test_what_is_no_base64url(text: str) -> None:
    with pytest.raises(CodeError) as caught:
        parse_base64url(text)
    assert caught.value.step == "encoding"

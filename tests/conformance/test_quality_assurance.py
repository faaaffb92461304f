"""dcc-quality-assurance: pictures of codes from 60 countries, read from pixels to content."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from printsvc.credential.dcc import check_dcc
from printsvc.credential.hcert import decode_hcert

zxingcpp = pytest.importorskip("zxingcpp", reason="reading pictures needs the service extra")
pillow = pytest.importorskip("PIL.Image", reason="reading pictures needs the service extra")

PICTURES = 232
# What is wrong with the data itself.
WRONG = {
    "LV/1.0.0/VAC.png": "v/0/dt: not a date",  # 2022-17-01
    "TSI/1.3.0/specialcases/MULTI_1.png": "v, t, r: exactly one of them must stand",  # made to be refused
    "TSI/1.3.0/specialcases/MULTI_2.png": "v: more than one entry",  # made to be refused
}


def test_every_picture_is_read(conformance: Path) -> None:
    root = conformance / "dcc-quality-assurance"
    read, wrong = 0, {}
    for path in sorted(root.rglob("*.png")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # palettes with transparency: no matter for a code
            picture = pillow.open(path).convert("L")
        (barcode,) = zxingcpp.read_barcodes(picture)
        decoded = decode_hcert(barcode.text)
        assert decoded.algorithm is not None
        assert decoded.kid is not None
        assert decoded.expires_at is not None
        problems = check_dcc(decoded.payload, issued_on=decoded.issued_at.date() if decoded.issued_at else None)
        if problems:
            wrong[path.relative_to(root).as_posix()] = "; ".join(problems)
        read += 1
    assert read == PICTURES
    assert wrong == WRONG

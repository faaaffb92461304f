"""Files of every format go through one door, told apart by what they hold."""

from __future__ import annotations

import io
import json

import pytest
import qrcode
from mutating.world import make_world
from PIL import Image
from vectors.signing import NOW, make_holder
from vectors.vdsnc import make_vdsnc

from printsvc.credential.batch import ring_of, verify_request
from printsvc.credential.dsc import read_dsc
from printsvc.credential.revocation import RevocationSubject, Revoked
from printsvc.credential.trust import TrustList
from printsvc.credential.trustedkey import CredentialFormat
from printsvc.flows.verify import verify_file

WORLD = make_world()
CODES = [(name, code) for name, codes in WORLD.codes.items() for code in codes]


def picture(code: str | bytes, kind: str) -> bytes:
    symbol = qrcode.QRCode(box_size=4, border=6)
    mode = qrcode.util.MODE_8BIT_BYTE if isinstance(code, bytes) else None
    symbol.add_data(qrcode.util.QRData(code, mode=mode) if mode else code, optimize=0)
    symbol.make()
    target = io.BytesIO()
    image: Image.Image = symbol.make_image().get_image().convert("L")
    image.save(target, kind)
    return target.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "PDF"])
@pytest.mark.parametrize("name", list(CredentialFormat))
def test_a_picture_of_each_format(name: CredentialFormat, kind: str) -> None:
    (verdict,) = verify_file(picture(WORLD.codes[name][0], kind), trust=WORLD.trust, now=NOW)
    assert (verdict["verdict"], verdict["format"]) == ("valid", name.value)
    assert verdict["claims"]["person"]["name"]


@pytest.mark.parametrize(("name", "code"), CODES)
def test_the_bare_content_of_each_format(name: CredentialFormat, code: str | bytes) -> None:
    body = code if isinstance(code, bytes) else f"\ufeff{code}\r\n".encode()
    (verdict,) = verify_file(body, trust=WORLD.trust, now=NOW)
    assert (verdict["verdict"], verdict["format"]) == ("valid", name.value)


@pytest.mark.parametrize("name", list(CredentialFormat))
def test_a_batch_believes_only_the_certificates_of_its_line(name: CredentialFormat) -> None:
    code = WORLD.codes[name][0]
    text = code.decode("latin-1") if isinstance(code, bytes) else code
    nobody = TrustList(0, NOW, ())
    request = {"id": 1, "code": text, "at": NOW.isoformat(), "certificates": []}
    assert verify_request(request, trust=WORLD.trust, now=NOW)["verdict"] == "unknown_signer"
    assert verify_request(request | {"certificates": None}, trust=WORLD.trust, now=NOW)["verdict"] == "valid"
    assert verify_request(request | {"certificates": None}, trust=nobody, now=NOW)["verdict"] == "unknown_signer"
    json.dumps(verify_request(request, trust=WORLD.trust, now=NOW), allow_nan=False)


def test_certificates_of_a_line_stand_for_every_format() -> None:
    csca = make_holder("CSCA", is_ca=True)
    signer, other = make_holder("Signer", issuer=csca), make_holder("Other")
    code = make_vdsnc(signer)
    for named, expected in (((csca,), "valid"), ((signer,), "valid"), ((other,), "unknown_signer")):
        certificates = [read_dsc(holder.der) for holder in named]
        trust = TrustList(0, NOW, tuple(certificates), ring_of(certificates))
        (verdict,) = verify_file(code.encode(), trust=trust, now=NOW)
        assert verdict["verdict"] == expected


class Book:
    """Everything is revoked, and what was asked is kept."""

    def __init__(self) -> None:
        self.asked: list[RevocationSubject] = []

    def find(self, subject: RevocationSubject) -> Revoked | None:
        self.asked.append(subject)
        return Revoked()


@pytest.mark.parametrize(
    ("name", "country", "identifiers"),
    [
        (CredentialFormat.HCERT, "UT", ("URN:UVCI:01:UT:0123456789ABCDEF",)),
        (CredentialFormat.SHC, "https://health.example/issuer", ()),
        (CredentialFormat.VDS_NC, "UTO", ("U32870",)),
        (CredentialFormat.DIVOC, "https://utopia.example/", ("https://utopia.example/vaccine/92047670169",)),
    ],
)
def test_revocation_is_asked_for_every_format(
    name: CredentialFormat, country: str, identifiers: tuple[str, ...]
) -> None:
    book, code = Book(), WORLD.codes[name][0]
    body = code if isinstance(code, bytes) else code.encode()
    (verdict,) = verify_file(body, trust=WORLD.trust, now=NOW, revocations=book)
    assert (verdict["verdict"], verdict["step"]) == ("revoked", "revocation")
    (subject,) = book.asked
    assert (subject.country, subject.uvcis) == (country, identifiers)
    assert subject.signature
    (unknown,) = verify_file(body, trust=TrustList(0, NOW, ()), now=NOW, revocations=book)
    assert (unknown["verdict"], len(book.asked)) == ("unknown_signer", 1), "nobody is asked about what nobody signed"

"""Our trust list in the forms of others: the EU gateway's JSON, and a bundle of certificates."""

from __future__ import annotations

import asyncio
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates

from printsvc.credential.trust import TrustList
from printsvc.credential.trustcms import sign_cms
from printsvc.credential.trustgateway import encode_gateway_entry
from printsvc.errors import NotFoundError
from printsvc.flows.trust import TrustBook


async def gateway_list(book: TrustBook, trust: TrustList, *, now: datetime) -> list[dict[str, str]]:
    """Return a list as the EU gateway has it; its upload certificate is our list signer's.

    Raises SignerError where nobody signs lists here.
    """
    signer = await book.get_list_signer(now)

    def encode() -> list[dict[str, str]]:
        return [
            encode_gateway_entry(
                dsc, sign_cms(dsc.der, signer, now=now), timestamp=trust.made_at.replace(microsecond=0)
            )
            for dsc in trust.certificates
        ]

    return await asyncio.to_thread(encode)


def certificate_bundle(trust: TrustList) -> bytes:
    """Return the certificates of a list as PKCS#7 in DER, unsigned. Raises NotFoundError for an empty list."""
    if not trust.certificates:
        raise NotFoundError("The trust list is empty.", vi="Danh sách tin cậy đang trống.")
    return serialize_certificates([x509.load_der_x509_certificate(dsc.der) for dsc in trust.certificates], Encoding.DER)

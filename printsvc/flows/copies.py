"""Digital copies: the certificate as a file for its holder, sealed."""

from __future__ import annotations

from collections.abc import Collection

from printsvc.domain.form import FormId
from printsvc.domain.print_job import PrintJob
from printsvc.flows.dispatch import draw_certificate
from printsvc.flows.seal import Copy, copy_tag
from printsvc.flows.services import Services


async def digital_copy(
    services: Services, job: PrintJob, *, sealed: bool = True, known_tags: Collection[str] = ()
) -> Copy:
    """Return the digital copy of a certificate as it is on this paper; an empty one where its tag is known.

    Without `sealed`, or where the service does not seal at all, it is the page as it is printed. Raises as
    `draw_certificate` does, and SignerError, SigningError.
    """
    pdf = await draw_certificate(services, job)
    now, book = services.clock(), services.seal
    if book is None or not sealed:
        tag = copy_tag(pdf, None)
        return Copy(b"" if tag in known_tags else pdf, tag, is_sealed=False)
    tag = copy_tag(pdf, (await book.get_key(now)).signer)
    if tag in known_tags:
        return Copy(b"", tag, is_sealed=True)
    return await book.seal(pdf, FormId(job.form), now)

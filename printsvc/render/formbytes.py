"""A form compiled, as bytes: what a site stamps with. In a process of its own: this one may never see WeasyPrint."""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from printsvc.domain.form import FormId
from printsvc.errors import RenderError
from printsvc.render.draw import RenderSetup


async def compiled_bytes(setup: RenderSetup, form_id: FormId) -> bytes:
    """Return the compiled form as CBOR, from the cache or compiled now (some ten seconds). Raises RenderError."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        found = await asyncio.get_running_loop().run_in_executor(executor, _compile, setup, form_id)
    if found is None:
        raise RenderError(f"The form {form_id} cannot be compiled.", vi=f"Không biên dịch được biểu mẫu {form_id}.")
    return found


def _compile(setup: RenderSetup, form_id: FormId) -> bytes | None:
    from printsvc.render.draw import Drawer

    stamper = Drawer(setup).stamper(form_id)
    return None if stamper is None else stamper.form.encode()

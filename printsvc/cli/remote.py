"""Talking to a running service, for the commands of admins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click

from printsvc.errors import InputError, Problem, UnavailableError


@dataclass(frozen=True, slots=True)
class Remote:
    """A service's address and the token to call it with."""

    url: str
    token: str

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the decoded JSON answer. Raises UnavailableError, InputError."""
        return asyncio.run(self._call(method, path, body))

    async def _call(self, method: str, path: str, body: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        timeout = aiohttp.ClientTimeout(total=30)
        try:
            async with (
                aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
                session.request(method, self.url.rstrip("/") + path, json=body) as answer,
            ):
                document = await answer.json(content_type=None)
                if answer.status < 400:
                    return document
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UnavailableError(
                f"No answer from {self.url} ({type(error).__name__}): is the service running?",
                vi=f"Không kết nối được {self.url}: dịch vụ đã chạy chưa?",
            ) from None
        errors = [Problem(e["pointer"], e["code"], e["vi"], e["en"]) for e in document.get("errors", [])]
        raise InputError(errors, en=document.get("detail"), vi=document.get("detail_vi"), code=document.get("code"))


def with_remote(function: Any) -> Any:
    """Add --url and --token-file; the command gets a Remote as its first argument."""

    @click.option("--url", default="http://127.0.0.1:8080", envvar="PRINTSVC_URL", show_default=True)
    @click.option(
        "--token-file",
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path("var/dev/admin.token"),
        envvar="PRINTSVC_TOKEN_FILE",
        show_default=True,
    )
    def wrapped(url: str, token_file: Path, **rest: Any) -> Any:
        token = token_file.read_text().strip() if token_file.exists() else ""
        return function(Remote(url, token), **rest)

    wrapped.__name__ = function.__name__
    wrapped.__doc__ = function.__doc__
    if hasattr(function, "__click_params__"):
        wrapped.__click_params__ += function.__click_params__  # type: ignore[attr-defined]
    return wrapped

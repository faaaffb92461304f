"""Talking to a running service, for the commands of admins."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from printsvc.errors import AccessError, InputError, Problem, UnavailableError

DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Body:
    """A body that is no JSON."""

    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Remote:
    """A service's address and the token to call it with."""

    url: str
    token: str
    token_file: Path | None = None

    def call(
        self, method: str, path: str, body: Any = None, *, data: Body | None = None, timeout_s: float = TIMEOUT_S
    ) -> Any:
        """Return the decoded JSON answer to `body` (sent as JSON) or `data`. Raises UnavailableError, InputError."""
        return asyncio.run(self._call(method, path, body, data=data, timeout_s=timeout_s))

    def fetch(self, path: str) -> bytes:
        """Return an answer's bytes as they are. Raises UnavailableError, InputError."""
        return bytes(asyncio.run(self._call("GET", path, None, raw=True)))

    async def _call(
        self,
        method: str,
        path: str,
        body: Any,
        *,
        raw: bool = False,
        data: Body | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        import aiohttp  # loads for half a second: --help does not wait for it

        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        more: dict[str, Any] = {"json": body}
        if data is not None:
            headers["Content-Type"] = data.media_type
            more = {"data": io.BytesIO(data.content)}  # aiohttp warns of large bodies given as bytes
        try:
            async with (
                aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
                session.request(method, self.url.rstrip("/") + path, **more) as answer,
            ):
                if raw and answer.status < 400:
                    return await answer.read()
                document = await answer.json(content_type=None)
                if answer.status < 400:
                    return document
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UnavailableError(
                f"No answer from {self.url} ({type(error).__name__}): is the service running?",
                vi=f"Không kết nối được {self.url}: dịch vụ đã chạy chưa?",
            ) from None
        if not isinstance(document, dict) or "detail" not in document:
            raise UnavailableError(
                f"{self.url} answered {answer.status}, and not as printsvc does: is the address right?",
                vi=f"{self.url} không trả lời như dịch vụ printsvc: địa chỉ có đúng không?",
            )
        if answer.status == 401:
            raise AccessError(401, *self._no_token())
        errors = [Problem(e["pointer"], e["code"], e["vi"], e["en"]) for e in document.get("errors", [])]
        raise InputError(errors, en=document["detail"], vi=document.get("detail_vi"), code=document.get("code"))

    def _no_token(self) -> tuple[str]:
        if not self.token:
            return (f"There is no token in {self.token_file}: name the file of an admin's token with --token-file.",)
        return (f"{self.url} does not know the token in {self.token_file}: is it that service's admin.token?",)


def with_remote(function: Any) -> Any:
    """Add --url and --token-file; the command gets a Remote as its first argument."""

    @click.option(
        "--url",
        default=DEFAULT_URL,
        envvar="PRINTSVC_URL",
        show_default=True,
        help="The service (PRINTSVC_URL).",
    )
    @click.option(
        "--token-file",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="PRINTSVC_TOKEN_FILE",
        help="File with an admin's token (PRINTSVC_TOKEN_FILE).  [dev/admin.token in the data folder]",
    )
    def wrapped(url: str, token_file: Path | None, **rest: Any) -> Any:
        if token_file is None:
            from printsvc.settings import read_settings

            token_file = read_settings().data_dir / "dev" / "admin.token"
        token = token_file.read_text().strip() if token_file.exists() else ""
        return function(Remote(url, token, token_file), **rest)

    wrapped.__name__ = function.__name__
    wrapped.__doc__ = function.__doc__
    if hasattr(function, "__click_params__"):
        wrapped.__click_params__ += function.__click_params__  # type: ignore[attr-defined]
    return wrapped

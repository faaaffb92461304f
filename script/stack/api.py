"""A small client of the service's HTTP API, without an event loop."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


class ApiError(Exception):
    """The service could not be asked: it is down, or the line was cut."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.body.splitlines() if line.strip()]


@dataclass(frozen=True, slots=True)
class Api:
    """`url` is the service's, `token` the caller's (may be empty)."""

    url: str
    token: str = ""
    timeout_s: float = 60.0

    def call(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json") -> Answer:
        """Return the answer, whatever its status. Raises ApiError."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if data is not None else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self.timeout_s)
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{method} {path}: {type(error).__name__}") from error
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """Return the decoded answer of a GET that succeeds. Raises ApiError."""
        answer = self.call("GET", path)
        if answer.status >= 400:
            raise ApiError(f"GET {path}: {answer.status}")
        return answer.json()

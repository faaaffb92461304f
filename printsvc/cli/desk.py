"""Where the commands of `printsvc keys` work: on the database itself, or through the service that has it open.

SQLite is one process's: while a service runs, it does what its admin's command asks of it over HTTP. Keys are made by
the command in either case, in the data folder or the token that the service uses.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import click

from printsvc.cli.remote import DEFAULT_URL, Remote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from printsvc.settings import Settings
    from printsvc.store.engine import Store

ACTOR = "command"


class Desk(Protocol):
    """Documents are those of the routes under /v1/signers."""

    def overview(self) -> dict[str, Any]: ...

    def register(self, certificate: bytes, key_store: str, begins: datetime | None, ends: datetime | None) -> Any: ...

    def start(self, thumbprint: str) -> dict[str, Any]: ...

    def stale(self, name: str) -> dict[str, Any]: ...

    def compromise(self, thumbprint: str, reason: str) -> dict[str, Any]: ...


class RemoteDesk:
    """A running service."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def overview(self) -> dict[str, Any]:
        return self._call("GET", "")

    def register(self, certificate: bytes, key_store: str, begins: datetime | None, ends: datetime | None) -> Any:
        body = {"certificate": base64.b64encode(certificate).decode("ascii"), "key_store": key_store}
        times = {"signing_from": begins, "signing_until": ends}
        return self._call("POST", "", body | {name: time.isoformat() for name, time in times.items() if time})

    def start(self, thumbprint: str) -> dict[str, Any]:
        return self._call("POST", f"/{quote(thumbprint, safe='')}/start")

    def stale(self, name: str) -> dict[str, Any]:
        return self._call("GET", f"/{quote(name, safe='')}/certificates")

    def compromise(self, thumbprint: str, reason: str) -> dict[str, Any]:
        return self._call("POST", f"/{quote(thumbprint, safe='')}/compromise", {"reason": reason})

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer: dict[str, Any] = self._remote.call(method, f"/v1/signers{path}", body)
        return answer


class StoreDesk:
    """The database itself; `settings` say where the keys are."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings

    def overview(self) -> dict[str, Any]:
        from printsvc.app import key_folder
        from printsvc.clock import clock
        from printsvc.flows.keys import overview
        from printsvc.flows.seal import seal_documents
        from printsvc.flows.trust import find_list_signer_document

        now, folder = clock(), key_folder(self._settings)
        told = self._store.read_now(lambda c: overview(c, now=now))
        return told | {"seals": seal_documents(folder, now), "list_signer": find_list_signer_document(folder, now)}

    def register(self, certificate: bytes, key_store: str, begins: datetime | None, ends: datetime | None) -> Any:
        from printsvc.clock import clock
        from printsvc.flows.keys import register, signer_document

        now = clock()
        record, _ = self._store.submit(
            lambda c: register(
                c, certificate, key_store=key_store, signing_from=begins, signing_until=ends, now=now, actor=ACTOR
            )
        ).result()
        return signer_document(record)

    def start(self, thumbprint: str) -> dict[str, Any]:
        from printsvc.app import open_key_stores
        from printsvc.clock import clock
        from printsvc.flows.keys import get_record, signer_document, start
        from printsvc.store.signers import list_records

        now = clock()
        record = get_record(self._store.read_now(list_records), thumbprint)
        open_key_stores(self._settings)[record.key_store].open(record.certificate)  # or nobody would sign after that
        started = self._store.submit(lambda c: start(c, record.thumbprint, now=now, actor=ACTOR)).result()
        return signer_document(started)

    def stale(self, name: str) -> dict[str, Any]:
        from printsvc.clock import clock
        from printsvc.flows.keys import stale_document

        return self._store.read_now(lambda c: stale_document(c, name, now=clock()))

    def compromise(self, thumbprint: str, reason: str) -> dict[str, Any]:
        from printsvc.app import open_key_stores
        from printsvc.clock import clock
        from printsvc.errors import SigningError
        from printsvc.flows.keys import compromise, signer_document, stale_document
        from printsvc.flows.signers import FollowedSigners

        now = clock()
        try:
            stores = open_key_stores(self._settings)
        except SigningError:  # whoever ends the trust in a key need not hold one
            stores = {}
        book = FollowedSigners(self._store, stores)
        book.look_now(now)

        def write(connection: Any) -> dict[str, Any]:
            stale = stale_document(connection, thumbprint, now=now)
            lost, signing = compromise(connection, thumbprint, reason=reason, now=now, actor=ACTOR, held=book.held())
            return stale | {"signer": signer_document(lost), "signing": signer_document(signing) if signing else None}

        return self._store.submit(write).result()


OpenDesk = Callable[[], AbstractContextManager[Desk]]


def with_desk(function: Any) -> Any:
    """Add --url, --token-file and --json; the command gets the settings, and what opens a Desk."""

    @click.option("--url", envvar="PRINTSVC_URL", help="Through this service, not on the database (PRINTSVC_URL).")
    @click.option(
        "--token-file",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="PRINTSVC_TOKEN_FILE",
        help="File with an admin's token, for a service.  [dev/admin.token in the data folder]",
    )
    @click.option("--json", "as_json", is_flag=True, help="As JSON.")
    def wrapped(url: str | None, token_file: Path | None, **rest: Any) -> Any:
        from printsvc.cli.exposed import warn_of_exposed

        settings = read_admin_settings()
        warn_of_exposed(settings, rest.get("csca_passphrase_file"), *_keys_in(rest.get("csca_dir")))
        return function(settings, lambda: open_desk(settings, url, token_file), **rest)

    wrapped.__name__, wrapped.__doc__ = function.__name__, function.__doc__
    wrapped.__click_params__ += getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    return wrapped


def _keys_in(folder: Path | None) -> list[Path]:
    return list(folder.glob("*.key.pem")) if folder is not None else []


def read_admin_settings() -> Settings:
    """Return the settings of the environment; where the keys are for development, so are the settings."""
    from printsvc.settings import read_settings

    settings = read_settings()
    if (settings.data_dir / "keys" / "development.passphrase").exists():
        return read_settings(development=True)
    return settings


@contextmanager
def open_desk(settings: Settings, url: str | None, token_file: Path | None) -> Iterator[Desk]:
    """Give a desk on the database; where that is another process's, or a URL is given, on the service."""
    from printsvc.app import open_store
    from printsvc.errors import StoreLockedError

    if url is None:
        try:
            store = open_store(settings)
        except StoreLockedError:
            pass
        else:
            try:
                yield StoreDesk(store, settings)
            finally:
                store.close()
            return
    path = token_file or settings.data_dir / "dev" / "admin.token"
    token = path.read_text().strip() if path.exists() else ""
    yield RemoteDesk(Remote(url or DEFAULT_URL, token, path))

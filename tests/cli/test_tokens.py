"""printsvc tokens: the first admin of a production, and the end of a token that was stolen; on both databases."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from printsvc.cli import main
from printsvc.store import migrate
from printsvc.store.engine import Store
from printsvc.store.sites import Caller, find_caller


@pytest.fixture
def url(store_url: str) -> str:
    with contextlib.closing(Store(store_url)) as store:
        migrate.upgrade(store)
    return store_url


def tokens(url: str, *arguments: str, data_dir: Path) -> tuple[int, str, str]:
    given = {name: None for name in os.environ if name.startswith("PRINTSVC_")}
    given |= {"PRINTSVC_DATA_DIR": str(data_dir), "PRINTSVC_DATABASE_URL": url}
    umask = os.umask(0o077)
    try:
        ended = CliRunner().invoke(main, ["tokens", *arguments], env=given)
    finally:
        os.umask(umask)
    return ended.exit_code, ended.stdout, ended.stderr


def holder(url: str, token: str) -> Caller | None:
    with contextlib.closing(Store(url)) as store:
        return store.read_now(lambda c: find_caller(c, token))


def test_a_token_is_made_listed_and_revoked(url: str, tmp_path: Path) -> None:
    file = tmp_path / "admin.token"
    code, out, err = tokens(url, "make", "admin", "--name", "an", "--out", str(file), data_dir=tmp_path)
    assert (code, str(file) in out) == (0, True), err
    token = file.read_text().strip()
    assert token not in out
    assert file.stat().st_mode & 0o077 == 0
    assert holder(url, token) == Caller("an", "admin")
    assert tokens(url, "make", "admin", "--name", "an", "--out", str(file), data_dir=tmp_path)[0] == 1
    assert file.read_text().strip() == token, "no file is overwritten"
    second = tokens(url, "make", "platform", "--name", "npd", data_dir=tmp_path)[1].strip()
    assert holder(url, second) == Caller("npd", "platform")
    listed = json.loads(tokens(url, "list", "--json", data_dir=tmp_path)[1])["tokens"]
    assert [(one["role"], one["name"], one["revoked_at"]) for one in listed] == [
        ("admin", "an", None), ("platform", "npd", None),
    ]  # fmt: skip
    for _ in range(2):
        code, out, _ = tokens(url, "revoke", listed[0]["id"], data_dir=tmp_path)
        assert (code, "an (admin) is revoked" in out, "Đã thu hồi" in out) == (0, True, True)
    assert (holder(url, token), holder(url, second)) == (None, Caller("npd", "platform"))
    assert json.loads(tokens(url, "list", "--json", data_dir=tmp_path)[1])["tokens"][0]["revoked_at"]


@pytest.mark.parametrize("token_id", ["", "0" * 12, "%" * 12, "ab"])
def test_a_token_that_is_not_there_is_said(url: str, token_id: str, tmp_path: Path) -> None:
    code, _, err = tokens(url, "revoke", token_id, data_dir=tmp_path)
    assert (code, "no such token" in err, "Không có mã truy cập" in err) == (1, True, True)


def test_a_name_that_cannot_be_is_refused_and_leaves_no_file(url: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    for name in ("", "x" * 65, "a\nb"):
        code, _, err = tokens(url, "make", "admin", "--name", name, "--out", str(file), data_dir=tmp_path)
        assert (code, "/name" in err) == (1, True)
    assert not file.exists()

"""The settings, and that each is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from printsvc.errors import InputError
from printsvc.settings import Settings, read_settings

DOCUMENT = (Path(__file__).parents[1] / "docs" / "settings.md").read_text()


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PRINTSVC_{name.upper()}", raising=False)


def test_every_setting_is_documented_and_nothing_else_is() -> None:
    rows = re.findall(r"^\| `PRINTSVC_(\w+)` \| (.+?) \| (.+) \|$", DOCUMENT, re.MULTILINE)
    service = DOCUMENT.partition("## Settings of the commands")[0]
    documented = set(re.findall(r"^\| `PRINTSVC_(\w+)`", service, re.MULTILINE))
    assert documented == {name.upper() for name in Settings.model_fields}
    assert {name for name, _, _ in rows} - documented == {"URL", "TOKEN_FILE"}
    for name, default, _ in rows:
        if (quoted := re.fullmatch(r"`([^`]*)`", default)) and name.lower() in Settings.model_fields:
            assert quoted[1] == _told(getattr(Settings(), name.lower()))


def _told(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_a_setting_is_frozen_and_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRINTSVC_KEY_PASSPHRASE", "open sesame")
    settings = read_settings()
    assert "sesame" not in repr(settings) + str(settings)
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgresql+psycopg://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("sqlite:////srv/p.db", "sqlite:////srv/p.db"),
        ("sqlite:///p.db", "sqlite:///p.db"),
    ],
)
def test_the_databases_address_gets_the_driver_that_is_installed(given: str, url: str) -> None:
    assert read_settings(database_url=given).store_url == url


def test_without_an_address_the_database_is_in_the_data_folder(tmp_path: Path) -> None:
    assert read_settings(data_dir=tmp_path).store_url == f"sqlite:///{tmp_path.resolve()}/printsvc.db"


@pytest.mark.parametrize("url", ["mysql://u:Geheim@h/d", "Geheim", "sqlite://", "sqlite:///"])
def test_another_database_is_refused_without_repeating_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRINTSVC_DATABASE_URL", url)
    with pytest.raises(InputError) as caught:
        read_settings()
    assert "PRINTSVC_DATABASE_URL" in caught.value.en
    assert "Geheim" not in caught.value.en + caught.value.vi


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRINTSVC_PORT", "70000")
    monkeypatch.setenv("PRINTSVC_LEASE_S", "-1")
    with pytest.raises(InputError) as caught:
        read_settings(host="x")
    told = [problem.en.partition(":")[0] for problem in caught.value.problems]
    assert sorted(told) == ["PRINTSVC_LEASE_S", "PRINTSVC_PORT"]
    assert all(problem.vi != problem.en for problem in caught.value.problems)
    with pytest.raises(InputError) as caught:
        read_settings(port=70000, lease_s=1)
    assert caught.value.problems[0].en.startswith("--port:")

"""Settings: frozen, from the environment (prefix PRINTSVC_), each documented in docs/settings.md."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from printsvc.errors import InputError, Problem

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parent
_DATABASE = re.compile(r"(postgres(ql)?(\+psycopg)?://.+|sqlite:////?[^/].*)")

_CLUSTER = re.compile(r"dask(\+tls)?://[^/@\s]+:[0-9]{1,5}")


def _beside_or_inside(name: str) -> Path:
    """Return a folder of the checkout, or its copy inside an installed wheel."""
    beside = _ROOT / name
    return beside if beside.is_dir() else _HERE / f"_{name}"


class Settings(BaseSettings):
    """A setting that is not set has a value that works on one machine."""

    model_config = SettingsConfigDict(env_prefix="PRINTSVC_", frozen=True, extra="ignore")

    data_dir: Path = Field(default=Path("var"), description="Folder of the database, keys and caches.")
    database_url: str = Field(default="", description="SQLAlchemy URL; empty means SQLite in the data folder.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    templates_dir: Path = Field(default_factory=lambda: _beside_or_inside("templates"), description="Forms.")
    fonts_dir: Path = Field(default_factory=lambda: _beside_or_inside("fonts"), description="Fonts and their manifest.")
    form: str = Field(default="a4/43-2022", description="Form of new certificates.")
    country: str = Field(default="VN", pattern="^[A-Z]{2}$", description="Issuing country, ISO 3166-1 alpha-2.")
    issuer: str = Field(default="Bộ Y tế Việt Nam", max_length=80, description="Issuer named in the certificate.")
    key_passphrase: SecretStr = Field(default=SecretStr(""), description="Opens the key files.")
    key_passphrase_file: Path | None = Field(default=None, description="File with the passphrase.")
    pkcs11_module: Path | None = Field(default=None, description="PKCS#11 module of the token with the keys.")
    pkcs11_token: str = Field(default="printsvc", description="Label of that token.")
    pkcs11_pin: SecretStr = Field(default=SecretStr(""), description="Its user PIN.")
    pkcs11_pin_file: Path | None = Field(default=None, description="File with the PIN.")
    render_workers: int = Field(
        default_factory=lambda: max(1, len(os.sched_getaffinity(0)) - 1), ge=1, description="Processes that draw pages."
    )
    render_queue: int = Field(default=256, ge=0, description="Pages that may wait for a worker.")
    render_recycle: int = Field(
        default=20_000, ge=0, description="Pages after which a drawing process is replaced; 0: never."
    )
    pool: str = Field(default="processes", description="Who draws pages: processes, or a Dask cluster.")
    pool_tls_dir: Path | None = Field(default=None, description="Folder with the cluster's TLS certificates.")
    lease_s: float = Field(default=120.0, gt=0, description="Seconds for which an agent holds a job unless it renews.")
    overdue_s: float = Field(
        default=1800.0,
        gt=0,
        description="Seconds from the injection until the paper is late; its job climbs in thirds.",
    )
    copies_operator: int = Field(default=2, ge=0, description="Further papers of a certificate that a site may print.")
    copies_operator_day: int = Field(default=50, ge=0, description="Further papers that a site may print in a day.")
    copies_admin: int = Field(default=10, ge=0, description="Further papers of a certificate that an admin may print.")
    revocation_snapshot_s: float = Field(
        default=3600.0, ge=1, description="Seconds from one snapshot of revocations to the next, where one changed."
    )
    seal: bool = Field(default=True, description="Seal digital copies; no: they go out plain.")
    seal_tsa_url: str = Field(default="", description="Time stamping authority (RFC 3161) for the seals.")
    seal_tsa_ca: Path | None = Field(default=None, description="Certificates (PEM) of whose time stamps are believed.")
    seal_tsa_timeout_s: float = Field(default=5.0, gt=0, le=60, description="Seconds to wait for a time stamp.")
    alert_rules: Path | None = Field(default=None, description="Rules of the alerts about sites, TOML.")
    alert_every_s: float = Field(default=30.0, ge=1, description="Seconds from one look at all sites to the next.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="How much is logged.")
    development: bool = Field(default=False, description="Make keys and tokens at the first start.")

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        # A value may hold a password: no error repeats it.
        if value and not _DATABASE.fullmatch(value):
            raise ValueError("must be postgresql://… or sqlite:///FILE")
        return value

    @field_validator("seal_tsa_url")
    @classmethod
    def _known_authority(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s@]+", value):
            raise ValueError("must be http://… or https://…")
        return value

    @field_validator("pool")
    @classmethod
    def _known_pool(cls, value: str) -> str:
        if value != "processes" and not _CLUSTER.fullmatch(value):
            raise ValueError("must be processes, dask://HOST:PORT or dask+tls://HOST:PORT")
        return value

    @property
    def store_url(self) -> str:
        """The database's URL, with the driver that is installed."""
        if not self.database_url:
            return f"sqlite:///{(self.data_dir / 'printsvc.db').resolve()}"
        return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", self.database_url)


def read_settings(**given: Any) -> Settings:
    """Return the settings of the environment, with `given` above them. Raises InputError that names each wrong one."""
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = [_problem(detail, given) for detail in error.errors(include_url=False, include_input=False)]
    raise InputError(problems, code="settings_invalid")


def _problem(detail: Any, given: dict[str, Any]) -> Problem:
    # pydantic-settings names a field of the environment in its own case, as pydantic does.
    name = str(detail["loc"][0]).lower() if detail["loc"] else ""
    setting = f"--{name.replace('_', '-')}" if name in given else f"PRINTSVC_{name.upper()}"
    message = detail["msg"].removeprefix("Value error, ")
    return Problem("", "setting_invalid", f"Thiết lập {setting} không hợp lệ: {message}.", f"{setting}: {message}.")

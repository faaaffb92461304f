"""Settings of a site's agent, from environment variables that begin with PRINTSVC_SPOOLER_."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from printsvc.errors import InputError
from spooler.core.attempt import Policy
from spooler.core.witness import Patience


class Settings(BaseSettings):
    """Times are in seconds. Every setting works when it is absent, but the URL of the service."""

    model_config = SettingsConfigDict(env_prefix="PRINTSVC_SPOOLER_", frozen=True, extra="ignore")

    url: str = Field(default="", description="base URL of the service; kept from the enrolment when empty")
    state_dir: Path = Field(default=Path("var/spooler"), description="journal and documents")
    cups_host: str = Field(default="localhost", description="CUPS server")
    cups_port: int = Field(default=631, ge=1, le=65535, description="its port")
    cups_files: Path = Field(default=Path("/etc/cups/cups-files.conf"), description="read by checks; not over CUPS")
    cups_conf_dir: Path = Field(default=Path("/etc/cups"), description="where cupsd.conf is; doctor reads it")
    queues: Annotated[tuple[str, ...], NoDecode] = Field(default=(), description="comma list; empty: all of the server")
    enroll_code: str = Field(default="", description="one-time code; used at start when not yet enrolled")
    ca_file: Path | None = Field(default=None, description="more certificate authorities for https, PEM")
    poll_wait_s: float = Field(default=25.0, ge=0, le=120, description="how long the service may keep a lease open")
    heartbeat_s: float = Field(default=10.0, gt=0, description="between lease calls while no queue is usable")
    health_s: float = Field(default=5.0, gt=0, description="between looks at the queues while idle")
    cups_timeout_s: float = Field(default=5.0, gt=0, description="for a question to CUPS")
    printer_timeout_s: float = Field(default=2.0, gt=0, description="for a question to a printer")
    request_timeout_s: float = Field(default=15.0, gt=0, description="for a call to the service, beside poll_wait_s")
    backoff_max_s: float = Field(default=60.0, gt=0, description="longest pause after errors of the service")
    document_max_bytes: int = Field(default=8_000_000, gt=0, description="largest document that is fetched")
    attempts: int = Field(default=3, ge=1, description="attempts that certainly gave no paper before a job fails")
    jobs_per_queue: int = Field(default=2, ge=1, description="jobs held for each usable queue, the printing one too")
    return_s: float = Field(default=20.0, gt=0, description="unsent jobs go back after so long without a usable queue")
    silence_s: float = Field(default=60.0, gt=0, description="a silent printer makes its job uncertain after so long")
    stall_s: float = Field(default=300.0, gt=0, description="the same, where CUPS does not get on")
    bag_passphrase_file: Path | None = Field(default=None, description="what opens the key of a day bag; asked if none")
    csca_file: Path | None = Field(default=None, description="CSCA that day bags are believed from; the first, if none")
    poll_s: float = Field(default=0.12, gt=0, description="between questions about a fresh job")

    stamps: bool = Field(default=True, description="stamp pages here where the service sends their data")
    packs: bool = Field(default=True, description="pack what goes over the line where the service understands it")

    @field_validator("queues", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value


def read_settings(**given: Any) -> Settings:
    """Return the settings of the environment, and those given. Raises InputError (settings_invalid)."""
    try:
        return Settings(**given)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)
    told = [(f"PRINTSVC_SPOOLER_{str(one['loc'][0]).upper()}" if one["loc"] else "", one["msg"]) for one in wrong]
    names = ", ".join(name for name, _ in told)
    raise InputError(
        en="Wrong settings: "
        + "; ".join(f"{name}: {message}" for name, message in told)
        + ". printsvc-spooler run --help names every setting.",
        vi=f"Thiết lập không hợp lệ: {names}. Xem printsvc-spooler run --help.",
        code="settings_invalid",
    )


def policy_of(settings: Settings) -> Policy:
    """Return the core's policy as the settings have it."""
    patience = Patience(silence_s=settings.silence_s, stall_s=settings.stall_s)
    return Policy(
        attempts=settings.attempts,
        jobs_per_queue=settings.jobs_per_queue,
        return_s=settings.return_s,
        poll_s=settings.poll_s,
        patience=patience,
    )


def systemd_watch() -> tuple[str, float | None]:
    """Return systemd's notify socket ("": none) and after how many seconds to tell it of our life (None: never)."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    every_s = int(usec) / 2_000_000 if usec.isascii() and usec.isdigit() and int(usec) > 0 else None
    return os.environ.get("NOTIFY_SOCKET", ""), every_s

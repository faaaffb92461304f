"""Test data made by others, read where it lies: nothing of it is part of this project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DEFAULT = Path(__file__).parents[2] / "../shared/conformance"


def conformance_root() -> Path:
    return Path(os.environ.get("PRINTSVC_CONFORMANCE", DEFAULT)).resolve()


@pytest.fixture(scope="session")
def conformance() -> Path:
    root = conformance_root()
    if not root.is_dir():
        pytest.skip(f"no test data at {root}: set PRINTSVC_CONFORMANCE")
    return root

"""What runs the real service, from tests/app/service.py: test folders are no packages, so it is loaded by its path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any


def _load(name: str, path: Path) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


_module = _load("printsvc_service_harness", Path(__file__).parents[1] / "app" / "service.py")
service, own_service = _module.service, _module.own_service

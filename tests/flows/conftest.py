"""What bulk runs are tested with, from bulk_harness.py beside this file: test folders are no packages."""

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


_module = _load("printsvc_bulk_harness", Path(__file__).with_name("bulk_harness.py"))
alive, run, issue = _module.alive, _module.run, _module.issue

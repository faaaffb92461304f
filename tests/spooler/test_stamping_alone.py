"""A site installs neither WeasyPrint nor a database: the agent and the stamp load without them."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"weasyprint", "pydyf", "jinja2", "sqlalchemy", "psycopg", "qrcode", "PIL"}:
            raise ImportError(name)

sys.meta_path.insert(0, Absent())
import spooler.agent
from spooler.stamping import can_stamp

assert can_stamp()
"""


def test_the_agent_stamps_without_what_only_the_service_has() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=120)

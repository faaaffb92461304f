"""Run as a program: the print command of a virtual printer. `argv[1]` is the document that it received.

Reads `behaviour.json` of the printer's directory, speaks to ippeveprinter on standard error (`STATE:` and `ATTR:`
lines), and writes the truth: what was started and what came out. Standard library only; one process a document.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

_SUFFIXES = {"application/pdf": "pdf", "image/pwg-raster": "pwg", "image/urf": "urf", "image/jpeg": "jpg"}


def say(line: str) -> None:
    """To ippeveprinter, at once."""
    print(line, file=sys.stderr, flush=True)


def behaviour(home: Path) -> dict[str, object]:
    """Return what the test asks of this printer now; the empty mapping is a printer in good order."""
    try:
        loaded = json.loads((home / "behaviour.json").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    assert isinstance(loaded, dict)
    return loaded


def number(asked: dict[str, object], name: str) -> float:
    """Return a number of the behaviour, 0 when absent."""
    value = asked.get(name, 0)
    return float(value) if isinstance(value, int | float) else 0.0


def record(home: Path, event: str, row: dict[str, object]) -> None:
    """Append one line to the truth, whole or not at all (O_APPEND, one write)."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"event": event, "at": now, **row}, ensure_ascii=False) + "\n"
    truth = os.open(home / "truth.ndjson", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(truth, line.encode())
    os.close(truth)


def free_path(home: Path, job_name: str, content_type: str) -> Path:
    """Return where this paper is kept: named by the job, numbered where the job came out more than once."""
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in job_name)[:180] or "untitled"
    suffix = _SUFFIXES.get(content_type, "bin")
    for copy in range(1, 10_000):
        path = home / "pages" / (f"{stem}.{suffix}" if copy == 1 else f"{stem}.{copy}.{suffix}")
        if not path.exists():
            return path
    raise AssertionError("one job came out ten thousand times")


def main() -> int:
    """Return the exit code that the behaviour asks for; not 0 makes ippeveprinter abort the job."""
    home = Path(os.environ["PRINTSVC_LAB_PRINTER"])
    job_name = os.environ.get("IPP_JOB_NAME", "")
    content_type = os.environ.get("CONTENT_TYPE", "")
    document = Path(sys.argv[1])
    content = document.read_bytes()
    row: dict[str, object] = {
        "job_name": job_name,
        "job_id": int(os.environ.get("IPP_JOB_ID", "0")),
        "content_type": content_type,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    record(home, "started", row)
    asked = behaviour(home)
    levels = asked.get("marker_levels")
    say(f"ATTR: marker-levels={','.join(map(str, levels)) if isinstance(levels, list) else '80'}")
    if asked.get("media_empty"):
        # The only severity that ippeveprinter has for this keyword.
        say("STATE: +media-empty-warning")
        record(home, "media-empty", row)
        while asked.get("media_empty"):
            time.sleep(0.05)
            asked = behaviour(home)
        say("STATE: -media-empty-warning")
    time.sleep(number(asked, "sleep_s"))
    exit_code = int(number(asked, "exit_code"))
    if exit_code == 0:
        path = free_path(home, job_name, content_type)
        partial = path.with_name(f".{path.name}")
        shutil.copyfile(document, partial)
        partial.rename(path)
        say("ATTR: job-impressions=1 job-impressions-completed=1")
        record(home, "printed", {**row, "page": path.name})
    else:
        record(home, "aborted", row)
    time.sleep(number(asked, "sleep_after_s"))
    return exit_code


if __name__ == "__main__":
    raise SystemExit(main())

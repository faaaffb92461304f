"""Open a lab by hand, with a PDF, a PWG raster and a URF printer, until Enter or Ctrl-C."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from lab.lab import PDF, PWG, URF, Lab


def main(arguments: list[str]) -> int:
    """`arguments`: the lab's directory."""
    if len(arguments) != 1:
        print("usage: python -m lab ROOT", file=sys.stderr)
        return 2
    with Lab(Path(arguments[0])) as lab:
        for name, formats in (("pdf", (PDF,)), ("pwg", (PWG,)), ("urf", (URF,))):
            queue = lab.add_queue(name, lab.add_printer(name, formats))
            print(f"{queue.name}: {queue.device_uri}, paper in {lab.printers[name].home / 'pages'}")
        print(f"CUPS_SERVER={lab.server} lpstat -t\nEnter ends the lab.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.readline()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

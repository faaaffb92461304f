"""script/fuzz TARGET [SECONDS] | --list | --seeds (write seeds that are missing)."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["printsvc.credential"]):
    from fuzzing.seeds import ROOT, write_seeds
    from fuzzing.targets import TARGETS

DEFAULT_SECONDS = "60"


def main(arguments: list[str]) -> int:
    if arguments == ["--list"]:
        print("\n".join(TARGETS))
        return 0
    if arguments == ["--seeds"]:
        print(f"{write_seeds()} seeds written")
        return 0
    if not arguments or arguments[0] not in TARGETS:
        print(__doc__, file=sys.stderr)
        return 2
    name = arguments[0]
    found = Path("build/fuzz") / name
    found.mkdir(parents=True, exist_ok=True)
    seconds = arguments[1] if len(arguments) > 1 else DEFAULT_SECONDS
    options = [f"-max_total_time={seconds}", "-max_len=8192", "-timeout=1", f"-artifact_prefix={found}/"]
    # What is loaded or made at first use takes a second, and is no finding of the first input.
    for seed in sorted((ROOT / name).iterdir()):
        TARGETS[name](seed.read_bytes())
    atheris.Setup(["fuzz", *options, str(found), str(ROOT / name)], TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Fetch the fonts of `fonts/manifest.toml` from their npm packages; called by script/setup.

A file that is there with the right digest stays. A file with another digest is an error: nothing is put in place.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Final

from printsvc.errors import RenderError
from printsvc.render.fonts import FontSource, load_fonts, read_manifest

FONTS_DIR: Final = Path(__file__).resolve().parent.parent / "fonts"


class FontInstallError(Exception):
    """A sentence that says which package or file is wrong, and how."""


def digest_of(path: Path) -> str | None:
    """SHA-256 in hex, or None if there is no such file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def fetch_package(npm: str, package: str, version: str, into: Path) -> Path:
    """Return the package's tarball, fetched by npm, which checks it against its registry."""
    command = [npm, "pack", "--loglevel=error", "--pack-destination", str(into), f"{package}@{version}"]
    done = subprocess.run(command, cwd=into, capture_output=True, text=True, check=False)
    tarballs = list(into.glob("*.tgz"))
    if done.returncode != 0 or len(tarballs) != 1:
        raise FontInstallError(f"npm could not fetch {package}@{version}:\n{done.stderr.strip()}")
    return tarballs[0]


def unpack_face(tarball: Path, source: FontSource) -> bytes:
    """Return the face's file out of the package, if it is the one that the manifest means."""
    with tarfile.open(tarball) as archive:
        try:
            member = archive.extractfile(f"package/{source.path}")
        except KeyError:
            member = None
        if member is None:
            raise FontInstallError(f"{source.package}@{source.version} has no file {source.path}")
        data = member.read()
    actual = hashlib.sha256(data).hexdigest()
    if actual != source.sha256:
        raise FontInstallError(
            f"{source.package}@{source.version}: {source.path} has another digest than fonts/manifest.toml says\n"
            f"  manifest: {source.sha256}\n  fetched:  {actual}"
        )
    return data


def install(fonts_dir: Path, npm: str) -> int:
    """Put every face that is missing or wrong in place; return how many those were."""

    def package_of(source: FontSource) -> tuple[str, str]:
        return source.package, source.version

    wanted = [source for source in read_manifest(fonts_dir) if digest_of(fonts_dir / source.filename) != source.sha256]
    for (package, version), sources in groupby(sorted(wanted, key=package_of), key=package_of):
        with tempfile.TemporaryDirectory() as folder:
            tarball = fetch_package(npm, package, version, Path(folder))
            faces = {source.filename: unpack_face(tarball, source) for source in sources}
        for filename, data in faces.items():
            draft = fonts_dir / f"{filename}.part"
            draft.write_bytes(data)
            draft.replace(fonts_dir / filename)
    load_fonts(fonts_dir)
    return len(wanted)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch the fonts of fonts/manifest.toml.")
    parser.add_argument("--digests", type=Path, help="write what is in place here, as `sha256sum --check` reads it")
    digests: Path | None = parser.parse_args().digests
    npm = shutil.which("npm")
    if npm is None:
        print("install_fonts: npm is not in PATH; run script/setup, which sees to it", file=sys.stderr)
        return 1
    try:
        count = install(FONTS_DIR, npm)
    except (FontInstallError, RenderError) as error:
        print(f"install_fonts: {error}", file=sys.stderr)
        return 1
    if digests is not None:
        digests.write_text("".join(f"{face.sha256}  {face.filename}\n" for face in load_fonts(FONTS_DIR)))
    print(f"fonts: {count} fetched, all digests agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())

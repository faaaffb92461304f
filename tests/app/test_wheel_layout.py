"""What a wheel holds is enough: installed without the checkout, the program finds its forms and its font manifest."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from printsvc_service_harness import ROOT, environment

LOOK = """
import json
from printsvc.domain.form import FormId
from printsvc.render.formfile import read_form
from printsvc.settings import Settings
settings = Settings()
form = read_form(settings.templates_dir / settings.form, FormId(settings.form))
manifest = settings.fonts_dir / "manifest.toml"
print(json.dumps([str(settings.templates_dir), form.form_id, manifest.is_file()]))
"""


def test_forms_and_font_manifest_are_found_where_the_wheel_puts_them(tmp_path: Path) -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for package in wheel["packages"]:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for source, target in wheel["force-include"].items():
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile
        copy(ROOT / source, tmp_path / target)
    ended = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    templates, form_id, has_manifest = json.loads(ended.stdout)
    assert Path(templates) == tmp_path / "printsvc" / "_templates"
    assert (form_id, has_manifest) == ("a4/43-2022", True)

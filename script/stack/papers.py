"""Reading a paper back: from what the printer received to a verdict, as a stranger with a scanner would."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import zxingcpp
from lab import Page
from PIL import Image

from printsvc.credential.trust import TrustList
from printsvc.credential.verify import verify

DPI = 300


@dataclass(frozen=True, slots=True)
class Paper:
    """One sheet. `attempt` is the job name that the printer was given; `uvci` is empty where nothing could be read."""

    printer: str
    attempt: str
    verdict: str
    uvci: str
    claims: dict[str, Any] | None
    picture: Path | None = None

    @property
    def reads(self) -> bool:
        return self.verdict == "valid"


def read_paper(printer: str, page: Page, *, trust: TrustList, now: datetime, save_in: Path | None = None) -> Paper:
    """Rasterise a document, decode its QR codes, and verify; with `save_in` the picture of each sheet is kept there."""
    codes: list[zxingcpp.Barcode] = []
    path = None
    for sheet in page.images(DPI):
        picture = sheet.convert("L")
        if save_in is not None:
            # Named by the attempt: nothing personal stands in a file name.
            path = _free_name(save_in, f"{printer}-{page.job_name}")
            picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX).save(path)
        codes += zxingcpp.read_barcodes(picture, formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode))
    if not codes:
        return Paper(printer, page.job_name, "no_code", "", None, path)
    # Every code on the sheet says the same (the page and its cut-out card), or the paper is wrong.
    texts = {code.text for code in codes}
    if len(texts) > 1:
        return Paper(printer, page.job_name, "codes_differ", "", None, path)
    verdict = verify(texts.pop(), trust=trust, at=now)
    claims = verdict.claims
    return Paper(printer, page.job_name, verdict.verdict.value, _uvci(claims), claims, path)


def says(paper: Paper, event: dict[str, Any]) -> bool:
    """Return whether the paper's QR states what the dose event stated: whose, when born, which vaccine, which dose."""
    person, dose = event["person"], event["dose"]
    payload = (paper.claims or {}).get("hcert", {})
    entry = payload["v"][0]
    name = payload["nam"]
    family, given = person.get("family_name"), person.get("given_name")
    apart = " ".join(part for part in (family, given) if part)
    wanted = apart if (family and given) or not person.get("full_name") else person["full_name"]
    printed = f"{name.get('fn', '')} {name.get('gn', '')}"
    return (
        sorted(unicodedata.normalize("NFC", wanted).split()) == sorted(printed.split())
        and payload["dob"] == person["date_of_birth"]
        and (entry["mp"], entry["dn"], entry["sd"]) == (dose["product"], dose["number"], dose["series"])
    )


def _uvci(claims: dict[str, Any] | None) -> str:
    try:
        return str((claims or {})["hcert"]["v"][0]["ci"])
    except (KeyError, IndexError, TypeError):
        return ""


def _free_name(folder: Path, stem: str) -> Path:
    path, number = folder / f"{stem}.png", 2
    while path.exists():
        path, number = folder / f"{stem}-sheet{number}.png", number + 1
    return path

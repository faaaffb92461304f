"""What a paper may never do, whoever wrote the form or chose the name: fetch, open, run or carry anything."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pikepdf
import pytest
from proofs.words import solid, text_of

from printsvc.domain.form import FormId, PageData
from printsvc.errors import RenderError
from printsvc.render.template import FormLibrary

ROOT = Path(__file__).resolve().parents[2]
A4 = FormId("a4/43-2022")

LibraryWith = Callable[[Path, str], FormLibrary]


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """An HTTP server on this machine and the paths that somebody asked it for; /away redirects to /secret."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302 if self.path == "/away" else 200)
            self.send_header("Location", "/secret")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", asked
        listening.shutdown()
        thread.join()


HOSTILE = (
    '<img src="{url}/x.png">',
    '<img src="{url}/away">',
    '<link rel="stylesheet" href="{url}/x.css">',
    '<link rel="attachment" href="{url}/x.txt">',
    '<a rel="attachment" href="{url}/x.txt">x</a>',
    '<style>@import url("{url}/x.css");</style>',
    '<style>h1 {{ background: url("{url}/x.png") }}</style>',
    '<style>@font-face {{ font-family: X; src: url("{url}/x.ttf") }} h1 {{ font-family: X }}</style>',
    '<object data="{url}/x.svg"></object>',
    '<embed src="{url}/x.svg">',
    '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="{url}/x.png"/></svg>',
)


@pytest.mark.parametrize("snippet", HOSTILE, ids=range(len(HOSTILE)))
def test_even_a_forms_own_page_fetches_nothing_over_http(
    tmp_path: Path, library_with: LibraryWith, sample: PageData, server: tuple[str, list[str]], snippet: str
) -> None:
    url, asked = server
    with pytest.raises(RenderError):
        library_with(tmp_path, snippet.format(url=url)).render_pdf(A4, sample)
    assert asked == []


@pytest.mark.parametrize(
    "url",
    ["file://{canary}", "{canary}", "//169.254.169.254/latest", "http://169.254.169.254/latest", "../43-2022/form.toml",
     "form:form.toml", "form:../../../fonts/manifest.toml", "font:../manifest.toml", "data:image/png;base64,AAAA"],
)  # fmt: skip
def test_no_file_and_no_other_scheme_is_opened(
    tmp_path: Path, library_with: LibraryWith, sample: PageData, url: str, opened: list[str]
) -> None:
    canary = tmp_path / "canary.png"
    canary.write_bytes((ROOT / "templates" / A4 / "guilloche.svg").read_bytes())
    library = library_with(tmp_path / "forms", f'<img src="{url.format(canary=canary)}">')
    library.form(A4)
    opened.clear()
    try:
        pdf = library.render_pdf(A4, sample)
    except RenderError:
        pass
    else:  # a relative address without a base is no address: WeasyPrint drops it
        assert ":" not in url
        assert text_of(pdf)
    assert [path for path in opened if "canary" in path or "form.toml" in path or "manifest" in path] == []


@pytest.fixture
def opened() -> list[str]:
    """Every path that this process opens from now on."""
    _paths.clear()
    return _paths


_paths: list[str] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        _paths.append(os.fsdecode(arguments[0]))


sys.addaudithook(_note)  # an audit hook cannot be taken away again


INJECTIONS = (
    "{{ 7 * 7 }} {% for x in page %}",
    "{{ page.__class__.__mro__ }}",
    '<img src="URL/x"><script>alert(1)</script>',
    "')>>/JS (app.alert(1)) /S /JavaScript",
    "&amp; &lt;b&gt; \\u0041 %PDF",
    '"><link rel=attachment href=file:///etc/passwd>',
)


@pytest.mark.parametrize("name", INJECTIONS, ids=range(len(INJECTIONS)))
def test_a_name_is_only_a_name(
    library: FormLibrary, sample: PageData, server: tuple[str, list[str]], name: str
) -> None:
    url, asked = server
    name = name.replace("URL", url)
    pdf = library.render_pdf(A4, cast(PageData, sample | {"full_name": name}))
    assert solid(text_of(pdf)).count(solid(name)) == 2
    assert asked == []
    assert actions_of(pdf) == set()


def actions_of(pdf: bytes) -> set[str]:
    """Keys of everything in a PDF that does, opens or carries something."""
    found = set()
    with pikepdf.open(io.BytesIO(pdf)) as document:
        for thing in document.objects:
            dictionary = thing.stream_dict if isinstance(thing, pikepdf.Stream) else thing  # type: ignore[attr-defined]
            if isinstance(dictionary, pikepdf.Dictionary):
                found |= set(dictionary.keys()) & {
                    "/JS", "/JavaScript", "/AA", "/OpenAction", "/URI", "/Launch", "/EmbeddedFiles", "/EF", "/Annots",
                    "/AcroForm", "/A", "/AF", "/XFA", "/RichMedia",
                }  # fmt: skip
    # /A in a structure element holds its attributes (a table header's scope), no action.
    return found - {"/A"} if tagged_attributes_only(pdf) else found


def tagged_attributes_only(pdf: bytes) -> bool:
    with pikepdf.open(io.BytesIO(pdf)) as document:
        return all(
            thing.get("/Type") == "/StructElem"
            for thing in document.objects
            if isinstance(thing, pikepdf.Dictionary) and "/A" in thing
        )

"""/agent/v1/line over real HTTP: leases and reports packed, pages as data, and the site that stamps them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from printsvc_api_harness import Api, told

from printsvc.app import assemble
from printsvc.domain.form import FormId, PageData
from printsvc.flows.formshelf import FormShelf
from printsvc.render.draw import Drawer, RenderSetup
from printsvc.render.stamp import NeedsWeasyPrint
from printsvc.store.engine import Store
from printsvc.store.sites import Caller, insert_token
from spooler import compact
from spooler import protocol as p
from spooler.line import LineDesk
from spooler.link import DocumentWrongError, Link

ROOT = Path(__file__).parents[2]
A4 = FormId("a4/43-2022")


class StampingRenderer:
    """Draws with the real stamp; `marred` makes its papers others than those of a site."""

    def __init__(self, drawer: Drawer) -> None:
        self.drawer = drawer
        self.marred = False

    async def render(self, form_id: FormId, page: PageData) -> bytes:
        pdf = await asyncio.to_thread(lambda: self.drawer.draw(form_id, page).pdf)
        return pdf + b"%" if self.marred else pdf

    async def compiled_form(self, form_id: FormId) -> bytes | None:
        stamper = self.drawer.stamper(form_id) if form_id == A4 else None
        return stamper.form.encode() if stamper is not None else None


@pytest.fixture(scope="session")
def drawer(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Drawer:
    """The real form, compiled once for all workers of a run."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    made = Drawer(RenderSetup(ROOT / "templates", ROOT / "fonts", shared / "compiled", forms=(A4,)))
    assert made.stamper(A4) is not None
    return made


@pytest.fixture
async def api(
    sqlite_url: str, make_world: Callable[[Store], Any], publish: Callable[..., Any], drawer: Drawer
) -> AsyncIterator[Api]:
    with contextlib.closing(Store(sqlite_url)) as store:
        world = make_world(store)
        renderer = StampingRenderer(drawer)
        world.renderer = renderer
        world.services = replace(world.services, renderer=renderer, shelf=FormShelf(renderer.compiled_form))
        tokens = {"platform": "ps_token-of-platform", "admin": "ps_token-of-admin"}
        for name, token in tokens.items():
            await store.write(lambda c, n=name, t=token: insert_token(c, t, Caller(n, n), now=world.clock.now))
        for signer in world.services.signers.signers:
            publish(store, signer, now=world.clock.now)
        async with TestClient(TestServer(assemble(world.services))) as client:
            yield Api(client, world, tokens)


class Site:
    """An agent's line and its documents, without a printer."""

    def __init__(self, api: Api, token: str, folder: Path) -> None:
        self.documents: dict[str, bytes] = {}
        self.link = Link(str(api.client.make_url("/")), token=token)
        self.desk = LineDesk(folder, self.link, self._keep)
        self.holding: tuple[p.Held, ...] = ()

    async def _keep(self, sha256: str, content: bytes) -> None:
        assert hashlib.sha256(content).hexdigest() == sha256
        self.documents[sha256] = content

    async def lease(self, capacity: int = 10, **changes: Any) -> p.LeaseAnswer:
        asked = p.LeaseRequest(
            journal_id="journal-1",
            capacity=capacity,
            holding=self.holding,
            printers=(p.PrinterReport(queue="lp1"),),
            **self.desk.told(),
        )
        answer = await self.link.lease(asked.model_copy(update=changes))
        self.holding += tuple(p.Held(job_id=job.job_id, fencing_token=job.fencing_token) for job in answer.jobs)
        await self.desk.prepare(answer)
        return answer

    async def with_form(self) -> None:
        """Ask until the form is here."""
        for _ in range(200):
            await self.lease(0)
            if self.desk.told()["forms"]:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("the compiled form did not come")

    async def close(self) -> None:
        self.desk.close()
        await self.link.close()


@pytest.fixture
async def site(api: Api, tmp_path: Path) -> AsyncIterator[Site]:
    _, token = await api.enrol()
    opened = Site(api, token, tmp_path)
    yield opened
    await opened.close()


async def test_a_page_comes_as_data_and_the_site_stamps_what_the_service_stamped(api: Api, site: Site) -> None:
    await site.with_form()
    issued = await api.issue()
    before = site.link.meter.bytes_down
    (job,) = (await site.lease()).jobs
    assert (job.job_id, job.copy_number) == (issued["job_id"], 1)
    assert site.link.meter.bytes_down - before < 700
    pdf = site.documents[job.document.sha256]
    assert len(pdf) == job.document.size
    assert pdf == await site.link.fetch(job.document.sha256, size=job.document.size, max_bytes=10**6)
    counts = site.link.meter.counts()
    assert (counts.stamped, counts.mismatched) == (1, 0)


async def test_a_page_that_the_stamp_cannot_set_is_fetched(
    api: Api, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.with_form()
    await api.issue()
    from printsvc.render.stamp import Stamper

    def stamp(self: Stamper, page: PageData) -> bytes:
        raise NeedsWeasyPrint("glyph")

    monkeypatch.setattr(Stamper, "stamp", stamp)
    (job,) = (await site.lease()).jobs
    assert job.data is not None
    assert site.documents == {}
    assert site.link.meter.counts().mismatched == 0
    assert await site.link.fetch(job.document.sha256, size=job.document.size, max_bytes=10**7)


async def test_another_digest_is_not_printed_but_told_and_the_form_is_not_used_again(api: Api, site: Site) -> None:
    await site.with_form()
    api.world.renderer.marred = True
    for number in range(2):
        await api.issue(f"M-{number}")
    jobs = (await site.lease(1)).jobs + (await site.lease(1)).jobs
    assert [job.data is None for job in jobs] == [False, True], "the second page is not sent twice"
    assert site.documents == {}
    assert site.link.meter.counts().mismatched == 1
    content = await site.link.fetch(jobs[0].document.sha256, size=jobs[0].document.size, max_bytes=10**6)
    assert hashlib.sha256(content).hexdigest() == jobs[0].document.sha256


async def test_an_agent_of_the_first_release_gets_documents_and_nothing_else(api: Api) -> None:
    await api.issue()
    _, token = await api.enrol()
    answer = await api.lease(token)
    (job,) = answer["jobs"]
    assert job["data"] is None
    assert answer["forms"] == []
    document = await api.call("GET", f"/agent/v1/documents/{job['document']['sha256']}", by=token)
    assert hashlib.sha256(document.body).hexdigest() == job["document"]["sha256"]


async def test_a_lease_that_was_lost_comes_again_with_its_data(api: Api, site: Site) -> None:
    await site.with_form()
    await api.issue()
    (first,) = (await site.lease()).jobs
    site.holding, site.documents = (), {}
    (again,) = (await site.lease()).jobs
    assert (again.job_id, again.fencing_token) == (first.job_id, 2)
    assert again.data == first.data
    assert list(site.documents) == [first.document.sha256]


async def test_reports_go_packed_and_only_what_was_refused_is_named(api: Api, site: Site) -> None:
    await site.with_form()
    issued = await api.issue()
    await site.lease()
    events = [told(kind, issued["job_id"], seq) for seq, kind in enumerate(("submitted", "printed", "failed"), 1)]
    before = site.link.meter.bytes_up
    answer = await site.link.report(p.ReportRequest(journal_id="journal-1", events=tuple(p.Event(**e) for e in events)))
    assert answer.acknowledged == 3
    assert [(one.seq, one.outcome) for one in answer.results] == [(3, "refused")]
    assert site.link.meter.bytes_up - before < 350
    assert (await api.job(issued["job_id"]))["state"] == "printed"


async def test_a_report_and_a_lease_go_together_and_nobody_waits(api: Api, site: Site) -> None:
    issued = await api.issue()
    _, token = await api.enrol("HN-1", "journal-2")
    (job,) = (await api.lease(token, journal_id="journal-2"))["jobs"]
    asked = p.LineRequest(
        lease=p.LeaseRequest(journal_id="journal-2", capacity=1, wait_s=60, holding=()),
        report=p.ReportRequest(journal_id="journal-2", events=(p.Event(**told("printed", job["job_id"], 1)),)),
    )
    body = compact.join_request(token, compact.pack(asked))
    answer = await asyncio.wait_for(api.call("POST", "/agent/v1/line", data=body, by=None), 20)
    got = p.LineAnswer.model_validate(compact.unpack(answer.body))
    assert got.report is not None
    assert got.report.acknowledged == 1
    assert got.lease is not None
    assert got.lease.jobs == ()
    assert (await api.job(issued["job_id"]))["state"] == "printed"


async def test_nonsense_and_strangers_are_refused(api: Api) -> None:
    _, token = await api.enrol()
    for body, status in (
        (b"", 422),
        (compact.join_request("ps_" + "00" * 32, compact.pack(p.LineRequest())), 401),
        (compact.join_request(token, b"\x01nonsense"), 422),
        (compact.join_request(token, b"\x7f"), 422),
        (compact.join_request(token, compact.pack(p.FormName(form="a", digest="b"))), 200),
    ):
        answer = await api.call("POST", "/agent/v1/line", data=body or b"\0", by=None)
        assert answer.status == status, (body, answer.body)
    nobody = p.LeaseRequest.model_construct(journal_id="j", capacity=-1)
    packed = compact.pack(p.LineRequest.model_construct(lease=nobody))
    answer = await api.call("POST", "/agent/v1/line", data=compact.join_request(token, packed), by=None)
    assert answer.status == 422
    assert "/lease/capacity" in json.dumps(answer.body)


async def test_what_is_fetched_goes_on_where_the_line_was_cut(api: Api) -> None:
    await api.issue()
    _, token = await api.enrol()
    (job,) = (await api.lease(token))["jobs"]
    path = f"/agent/v1/documents/{job['document']['sha256']}"
    whole = (await api.call("GET", path, by=token)).body
    rest = await api.call("GET", path, by=token, headers={"Range": "bytes=1000-"})
    assert (rest.status, rest.body) == (206, whole[1000:])
    assert rest.headers["Content-Range"] == f"bytes 1000-{len(whole) - 1}/{len(whole)}"
    for odd in ("bytes=0-", f"bytes={len(whole)}-", "bytes=-5", "bytes=5-9", "pages=1-"):
        answer = await api.call("GET", path, by=token, headers={"Range": odd})
        assert (answer.status, answer.body) == (200, whole), odd


async def test_a_compiled_form_is_had_by_its_digest_only(api: Api, site: Site) -> None:
    shelved = await api.world.services.shelf.find(A4)
    encoded = await site.link.fetch_form(p.FormName(form=A4, digest=shelved.digest))
    assert zlib.decompress(shelved.body) == encoded
    for form, digest in ((A4, "0" * 64), ("a5/none", shelved.digest), ("../x", shelved.digest)):
        with pytest.raises(DocumentWrongError):
            await site.link.fetch_form(p.FormName(form=form, digest=digest))
    assert (await api.call("GET", f"/agent/v1/forms/{shelved.digest}?form={A4}", by=None)).status == 401


async def test_a_form_that_is_not_what_its_digest_says_is_not_kept(api: Api, site: Site, tmp_path: Path) -> None:
    await site.with_form()
    (kept,) = (tmp_path / "forms").glob("*.cbor")
    assert not site.desk._forms.keep("0" * 64, kept.read_bytes())
    kept.write_bytes(kept.read_bytes()[:-1])
    await api.issue()
    (job,) = (await site.lease()).jobs
    assert site.documents == {}
    assert not kept.exists(), "a damaged form is fetched again"
    assert job.data is not None


async def test_a_page_that_ended_the_process_is_fetched_from_then_on(api: Api, site: Site, tmp_path: Path) -> None:
    await site.with_form()
    await api.issue()
    answer = await site.link.lease(p.LeaseRequest(journal_id="journal-1", capacity=1, forms=site.desk.told()["forms"]))
    (tmp_path / "forms" / "stamping").write_text(answer.jobs[0].document.sha256)
    again = Site(api, "", tmp_path)
    await again.desk.prepare(answer)
    assert again.documents == {}
    await again.close()
    await site.desk.prepare(answer)
    assert len(site.documents) == 1

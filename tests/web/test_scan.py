"""Scan-back and copies over HTTP."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
import qrcode
from printsvc_api_harness import Api

SCAN = "/v1/papers/scan"


async def printed(
    api: Api, dose_id: str = "D-1", *, kinds: tuple[str, ...] = ("submitted", "printed"), **more: Any
) -> dict[str, Any]:
    """Issue a dose whose paper is out; return its answer."""
    issued = await api.issue(dose_id, **more)
    _, token = await api.enrol(journal_id=f"journal-{dose_id}")
    (job,) = (await api.lease(token, journal_id=f"journal-{dose_id}"))["jobs"]
    at = "2021-10-30T02:13:00Z"
    events = [
        {"seq": seq, "kind": kind, "job_id": job["job_id"], "fencing_token": 1, "at": at}
        for seq, kind in enumerate(kinds, start=1)
    ]
    await api.report(token, *events, journal_id=f"journal-{dose_id}")
    return issued


def papers_path(issued: dict[str, Any]) -> str:
    return f"/v1/certificates/{issued['uvci'].replace('#', '%23')}/papers"


def png_of(text: str) -> bytes:
    file = io.BytesIO()
    qrcode.make(text, border=4, box_size=4).save(file, format="PNG")
    return file.getvalue()


async def test_the_right_paper_is_confirmed_and_counted_once(api: Api) -> None:
    issued = await printed(api)
    body = {"code": issued["certificate"]["hcert"], "job_id": issued["job_id"]}
    first = await api.call("POST", SCAN, body, by="site")
    assert first.status == 200
    told = (first.body["verdict"], first.body["hand_over"], first.body["settled"], first.body["must_see_copy"])
    assert told == ("right_paper", True, True, 1)
    assert (first.body["paper"]["state"], first.body["paper"]["paper"]["state"]) == ("confirmed", "current")
    assert first.body["detail_vi"] != first.body["detail"]
    again = await api.call("POST", SCAN, body, by="site")
    assert (again.body["verdict"], again.body["settled"]) == ("right_paper", False)
    stats = (await api.call("GET", "/v1/stats", by="admin")).body
    assert (stats["confirmed"], stats["with_paper"]) == (1, 1)
    job = await api.job(issued["job_id"])
    assert [one["verdict"] for one in job["scans"]] == ["right_paper", "right_paper"]
    assert [one["event"] for one in job["events"]].count("scan") == 1


async def test_a_picture_is_read_as_the_body_or_inside_json(api: Api) -> None:
    issued = await printed(api)
    png = png_of(issued["certificate"]["hcert"])
    answer = await api.call(
        "POST",
        f"{SCAN}?copy_number=1&job_id={issued['job_id']}",
        data=png,
        headers={"Content-Type": "image/png"},
        by="site",
    )
    assert answer.body["verdict"] == "right_paper"
    answer = await api.call("POST", SCAN, {"image": base64.b64encode(png).decode()}, by="site")
    assert answer.body["verdict"] == "right_paper"
    blank = png_of("https://example.vn")
    answer = await api.call("POST", SCAN, data=blank, headers={"Content-Type": "image/png"}, by="site")
    assert (answer.status, answer.body["verdict"]) == (200, "not_ours")
    answer = await api.call("POST", SCAN, data=b"x", headers={"Content-Type": "image/jpeg"}, by="site")
    assert (answer.status, answer.body["verdict"]) == (200, "unreadable")


async def test_the_wrong_persons_paper_is_not_handed_over(api: Api) -> None:
    mine = await printed(api)
    other = await printed(api, "D-2", full_name="TRẦN VĂN BÌNH", id_number="001185012346")
    answer = await api.call("POST", SCAN, {"code": other["certificate"]["hcert"], "uvci": mine["uvci"]}, by="site")
    told = (answer.body["verdict"], answer.body["hand_over"], answer.body["settled"], answer.body["paper"])
    assert told == ("wrong_person", False, False, None)
    assert (await api.job(other["job_id"]))["state"] == "printed"


async def test_a_copy_replaces_the_paper_before_it_in_every_list(api: Api) -> None:
    issued = await printed(api)
    made = await api.call("POST", papers_path(issued), {"reason": "lost", "request_id": "r-1"}, by="site")
    assert (made.status, made.body["copy_number"], made.body["asked_by"]) == (201, 2, "site:HN-1")
    again = await api.call("POST", papers_path(issued), {"reason": "lost", "request_id": "r-1"}, by="site")
    assert (again.status, again.body["job_id"]) == (201, made.body["job_id"])
    papers = (await api.call("GET", papers_path(issued), by="site")).body["papers"]
    assert [(one["copy_number"], one["paper"]["state"], one["paper"]["reason"]) for one in papers] == [
        (1, "replaced", "lost"),
        (2, "current", ""),
    ]
    assert papers[0]["paper"]["replaced_by"] == made.body["job_id"]
    told = (await api.call("GET", papers_path(issued).removesuffix("/papers"), by="site")).body["papers"]
    assert told == papers
    old = await api.call("POST", SCAN, {"code": issued["certificate"]["hcert"]}, by="site")
    assert (old.body["verdict"], old.body["must_see_copy"], old.body["hand_over"]) == ("old_copy", 2, False)
    assert "2" in old.body["detail_vi"]


async def test_a_revoked_certificates_paper_is_not_handed_over(api: Api) -> None:
    issued = await printed(api)
    body = {"uvci": issued["uvci"], "reason": "data_error"}
    assert (await api.call("POST", "/v1/revocations", body, by="admin")).status == 201
    answer = await api.call("POST", SCAN, {"code": issued["certificate"]["hcert"]}, by="site")
    assert (answer.body["verdict"], answer.body["hand_over"]) == ("revoked", False)
    papers = (await api.call("GET", papers_path(issued), by="site")).body["papers"]
    assert [one["paper"] for one in papers] == [{"state": "void", "reason": "revoked"}]


async def test_another_sites_paper_is_told_no_different_from_one_that_is_not_there(api: Api) -> None:
    issued = await printed(api)
    theirs = await api.call("POST", SCAN, {"code": issued["certificate"]["hcert"]}, by="site2")
    unknown = await api.call("POST", SCAN, {"code": "https://example.vn"}, by="site2")
    assert (theirs.status, theirs.body) == (unknown.status, unknown.body)
    # A site's own token is what says for whom it scans, whatever the body says.
    posing = {"code": issued["certificate"]["hcert"], "site_id": "HN-1"}
    assert (await api.call("POST", SCAN, posing, by="site2")).body == unknown.body
    for name, mine, none in (("job_id", issued["job_id"], "f" * 20), ("uvci", issued["uvci"], "URN:UVCI:01:VN:0#0")):
        expected = [await api.call("POST", SCAN, {"code": "HC1:X", name: value}, by="site2") for value in (mine, none)]
        assert [answer.status for answer in expected] == [404, 404]
        assert expected[0].body == expected[1].body
    assert (await api.job(issued["job_id"]))["state"] == "printed"


async def test_an_admin_scans_for_a_site_that_exists(api: Api) -> None:
    issued = await printed(api)
    body = {"code": issued["certificate"]["hcert"]}
    assert (await api.call("POST", SCAN, body | {"site_id": "HN-2"}, by="admin")).body["verdict"] == "not_ours"
    assert (await api.call("POST", SCAN, body | {"site_id": "NONE"}, by="admin")).status == 404
    assert (await api.call("POST", SCAN, body | {"site_id": "HN-1"}, by="admin")).body["verdict"] == "right_paper"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/code"),
        ({"code": "HC1:X", "image": "AA=="}, "/code"),
        ({"image": "not base64!"}, "/image"),
        ({"code": "HC1:X", "copy_number": 0}, "/copy_number"),
        ({"code": "HC1:X", "copy_number": "two"}, "/copy_number"),
        ({"code": "HC1:X", "job_id": "a", "uvci": "b"}, "/uvci"),
        ({"code": "HC1:X", "more": 1}, "/more"),
    ],
)
async def test_a_wrong_question_is_refused_with_its_place(api: Api, body: dict[str, Any], pointer: str) -> None:
    answer = await api.call("POST", SCAN, body, by="site")
    assert (answer.status, [one["pointer"] for one in answer.body["errors"]]) == (422, [pointer])


async def test_beyond_the_limit_the_answer_says_who_can_help(api: Api) -> None:
    issued = await printed(api)
    _, token = await api.enrol(journal_id="j-2")
    for copy_number in (2, 3):
        made = await api.call("POST", papers_path(issued), {"reason": "spoilt"}, by="site")
        assert (made.status, made.body["copy_number"]) == (201, copy_number)
        await api.lease(token, journal_id="j-2")
        told = {"kind": "uncertain", "job_id": made.body["job_id"], "fencing_token": 1, "at": "2021-10-30T02:14:00Z"}
        await api.report(token, told | {"seq": copy_number - 1}, journal_id="j-2")
        if copy_number == 2:
            here = {"seen": "here"}
            assert (
                await api.call("POST", f"/v1/print-jobs/{made.body['job_id']}/settle", here, by="site")
            ).status == 200
    settled = await api.call("POST", f"/v1/print-jobs/{made.body['job_id']}/settle", {"seen": "not_here"}, by="site")
    assert (settled.status, settled.body["print_job"]["state"], settled.body["replacement"]) == (200, "failed", None)
    assert settled.body["no_replacement"]["code"] == "copy_limit"
    refused = await api.call("POST", papers_path(issued), {"reason": "lost"}, by="site")
    assert (refused.status, refused.body["code"]) == (409, "copy_limit")
    assert "admin" in refused.body["detail"]
    allowed = await api.call("POST", papers_path(issued), {"reason": "lost"}, by="admin")
    assert (allowed.status, allowed.body["copy_number"]) == (201, 4)

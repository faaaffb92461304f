"""/v1/revocations over HTTP: who may, what is told, that no personal data is."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from printsvc_api_harness import Api

from printsvc.credential.hcert import decode_hcert
from printsvc.credential.keys import LocalSigner, make_csca, make_dsc, make_private_key
from printsvc.credential.revocation import Batch, HashType, revocation_hashes
from printsvc.credential.revocation_snapshot import SnapshotRevocations, apply_delta, open_snapshot
from printsvc.credential.trust import make_trust_list
from printsvc.credential.verify import subject_of
from printsvc.flows.revocation_lists import is_signed_by_another, publish_snapshot
from printsvc.flows.signers import LocalSigners
from printsvc.web.routes import ROUTES

PATH = "/v1/revocations"


async def revoke(api: Api, uvci: str, reason: str = "data_error", **more: Any) -> Any:
    return await api.call("POST", PATH, {"uvci": uvci, "reason": reason} | more, by="admin")


async def verdict(api: Api, issued: Any) -> str:
    answer = await api.call("POST", "/v1/verify", {"code": issued["certificate"]["hcert"]}, by=None)
    return str(answer.body["verdict"])


async def test_one_is_revoked_told_and_undone(api: Api) -> None:
    issued = await api.issue()
    uvci = issued["uvci"]
    tried = await revoke(api, uvci, dry_run=True)
    assert (tried.status, tried.body) == (200, {"dry_run": True, "count": 1, "already": 0})
    assert await verdict(api, issued) == "valid"
    first, again = await revoke(api, uvci.lower()), await revoke(api, uvci)
    assert (first.status, again.status, again.body["replayed"]) == (201, 200, True)
    assert (first.body["reason"], first.body["revoked_by"], first.body["state"]) == ("data_error", "admin", "current")
    other = await revoke(api, uvci, "fraud")
    assert (other.status, other.body["fields"]) == (409, ["/reason"])
    judged = await api.call("POST", "/v1/verify", {"code": issued["certificate"]["hcert"]}, by=None)
    assert judged.body["verdict"] == "revoked"
    assert judged.body["revocation"]["reason_vi"] in judged.body["detail_vi"]
    assert judged.body["revocation"]["reason_en"] in judged.body["detail"]
    shown = await api.call("GET", f"/v1/certificates/{uvci.replace('#', '%23')}", by="admin")
    assert shown.body["revoked"]
    assert [paper["state"] for paper in shown.body["papers"]] == ["canceled"]
    pdf = await api.call("GET", f"/v1/certificates/{uvci.replace('#', '%23')}.pdf", by="admin")
    assert (pdf.status, pdf.body["code"]) == (409, "certificate_revoked")
    assert "30/10/2021" in pdf.body["detail_vi"]
    copy = await api.call(
        "POST", f"/v1/certificates/{uvci.replace('#', '%23')}/papers", {"reason": "lost"}, by="admin"
    )  # fmt: skip
    assert (copy.status, copy.body["code"]) == (409, "certificate_revoked")
    undone = await api.call("POST", PATH + "/undo", {"uvci": uvci, "reason": "mistake"}, by="admin")
    assert (undone.status, undone.body["state"]) == (200, "undone")
    assert await verdict(api, issued) == "valid"
    listed = (await api.call("GET", PATH + "?state=undone", by="admin")).body
    assert [one["uvci"] for one in listed["revocations"]] == [uvci]
    assert (await api.call("GET", PATH + "?state=current", by="admin")).body["revocations"] == []


async def test_the_rules_of_undoing_are_a_problem(api: Api) -> None:
    uvci = (await api.issue())["uvci"]
    await revoke(api, uvci, "fraud")
    answer = await api.call("POST", PATH + "/undo", {"uvci": uvci, "reason": "mistake"}, by="admin")
    assert (answer.status, answer.body["code"]) == (409, "undo_not_allowed")
    assert answer.body["detail"] != answer.body["detail_vi"]
    nobody = await revoke(api, "URN:UVCI:01:VN:NOBODY")
    assert nobody.status == 404


async def test_who_may_what(api: Api) -> None:
    open_to_all = {"/hashes/{hash}", "/snapshot", "/delta", "/batches", "/batches/{batch_id}"}
    for route in ROUTES:
        if not route.path.startswith(PATH):
            continue
        path = route.path.replace("{hash}", "0" * 32).replace("{batch_id}", "00-0").replace("{run_id}", "no-such-run")
        for by in (None, "platform", "admin", "site"):
            answer = await api.call(route.method, path, by=by)
            may = route.path.removeprefix(PATH) in open_to_all or by in route.roles
            assert (answer.status not in (401, 403)) == may, (route.method, route.path, by, answer.status)
    assert {route.path.removeprefix(PATH) for route in ROUTES if route.path.startswith(PATH) and not route.roles} == (
        open_to_all
    )


async def test_a_site_sees_its_own(api: Api) -> None:
    uvci = (await api.issue())["uvci"]
    await revoke(api, uvci)
    for by, count in (("site", 1), ("site2", 0), ("platform", 1)):
        assert len((await api.call("GET", PATH, by=by)).body["revocations"]) == count
    assert (await api.call("GET", PATH + "/stale-papers?site_id=HN-1", by="site2")).body["site_id"] == "HN-2"


async def test_pages_of_the_list(api: Api) -> None:
    uvcis = [(await api.issue(f"D-{number}"))["uvci"] for number in range(5)]
    for uvci in uvcis:
        await revoke(api, uvci)
    found, after = [], 0
    while after is not None:
        page = (await api.call("GET", f"{PATH}?limit=2&after={after}", by="admin")).body
        found += [one["uvci"] for one in page["revocations"]]
        after = page["next"]
    assert found == uvcis
    assert "MINH KHAI" not in json.dumps((await api.call("GET", PATH, by="admin")).body, ensure_ascii=False)
    for query in ("limit=0", "limit=x", "limit=1001", "after=-1", "state=x", "reason=x", "kid=%2a"):
        answer = await api.call("GET", f"{PATH}?{query}", by="admin")
        assert answer.status == 422, query


async def test_a_query_is_counted_then_run(api: Api) -> None:
    some = [await api.issue(f"D-{number}", lot="BAD") for number in range(3)]
    await api.issue("E", lot="GOOD")
    body = {"query": {"lot": "BAD", "injected_from": "2021-10-30T00:00:00+07:00"}, "reason": "dose_withdrawn"}
    first = await api.call("POST", PATH + "/query", body, by="admin")
    assert (first.status, {one["code"] for one in first.body["errors"]}) == (422, {"dry_run_first"})
    shown = (await api.call("POST", PATH + "/query", body | {"dry_run": True}, by="admin")).body
    assert (shown["count"], shown["by_site"]) == (3, {"HN-1": 3})
    assert "MINH KHAI" not in json.dumps(shown, ensure_ascii=False)
    wrong = await api.call("POST", PATH + "/query", body | {"run_id": shown["run_id"], "expected": 4}, by="admin")
    assert (wrong.status, wrong.body["code"]) == (409, "count_changed")
    run = await api.call("POST", PATH + "/query", body | {"run_id": shown["run_id"], "expected": 3}, by="admin")
    assert (run.status, run.body["revoked"], run.body["left"]) == (200, 3, 0)
    assert [await verdict(api, one) for one in some] == ["revoked"] * 3
    told = (await api.call("GET", f"{PATH}/runs/{shown['run_id']}", by="admin")).body
    assert (told["asked"]["lot"], told["asked_by"], told["total"]) == ("BAD", "admin", 3)
    assert [one["run_id"] for one in (await api.call("GET", PATH + "/runs", by="admin")).body["runs"]] == [
        shown["run_id"]
    ]
    for bad in ({}, {"query": {}}, {"query": {"name": "x"}, "reason": "fraud"}, {"query": {}, "reason": "fraud"}):
        assert (await api.call("POST", PATH + "/query", bad | {"dry_run": True}, by="admin")).status == 422


async def send(api: Api, body: bytes, query: str = "") -> Any:
    headers = {"Content-Type": "text/csv"}
    return await api.call("POST", f"{PATH}/csv?{query}", data=body, headers=headers, by="admin")


async def test_a_file_with_bad_lines(api: Api) -> None:
    issued = await api.issue()
    first = f"\ufeffUVCI;Họ tên;Reason\n{issued['uvci']};NGUYỄN VĂN A;fraud\n"
    body = first + "x y;B;fraud\n;C;fraud\n\nURN:UVCI:01:VN:X#Y;D;no\n"
    tried = await send(api, body.encode(), "dry_run=1")
    assert (tried.status, tried.body["good"], tried.body["bad"]) == (200, 1, 3)
    assert [(one["line"], one["column"], one["code"]) for one in tried.body["errors"]] == [
        (3, "uvci", "uvci_form"), (4, "uvci", "missing"), (6, "reason", "unknown_reason"),
    ]  # fmt: skip
    assert all(one["vi"].startswith(f"Dòng {one['line']}") for one in tried.body["errors"])
    refused = await send(api, body.encode())
    assert (refused.status, refused.body["code"], len(refused.body["errors"])) == (422, "csv_invalid", 3)
    assert await verdict(api, issued) == "valid"
    done = await send(api, body.encode(), "skip_bad=1")
    assert (done.status, done.body["revoked"], done.body["bad"]) == (200, 1, 3)
    assert await verdict(api, issued) == "revoked"
    told = json.dumps([tried.body, refused.body, done.body], ensure_ascii=False)
    assert "NGUYỄN" not in told
    assert "x y" not in told


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (b"", "reason=fraud"), (b"uvci\nA", ""), (b"a,b\n1,2", "reason=fraud"), (b"\xff\xfe", "reason=fraud"),
        (b"uvci,uvci\n", "reason=fraud"), (b"uvci\nA", "reason=x"), (b"uvci\n", "dry_run=x&reason=fraud"),
        (b"uvci\n", "run_id=x&reason=fraud"), (b"\"", "reason=fraud"),
    ],
)  # fmt: skip
async def test_a_file_that_is_none(api: Api, body: bytes, query: str) -> None:
    answer = await send(api, body, query)
    assert answer.status == 422
    assert answer.body["detail"] != answer.body["detail_vi"]


async def test_another_media_type_is_refused(api: Api) -> None:
    assert (await api.call("POST", PATH + "/csv", {"a": 1}, by="admin")).status == 415


# --- verifiers


def believe(api: Api) -> dict[str, Any]:
    der = api.world.services.signers.current(api.world.clock.now).certificate
    return {"trust": make_trust_list([der], version=1, made_at=api.world.clock.now), "now": api.world.clock.now}


async def test_a_verifier_asks_for_certain(api: Api) -> None:
    issued = await api.issue()
    subject = subject_of(decode_hcert(issued["certificate"]["hcert"]))
    hashes = {kind: revocation_hashes(kind, subject)[0].hex() for kind in HashType}
    await revoke(api, issued["uvci"], "identity_mismatch")
    for digest in hashes.values():
        told = (await api.call("GET", f"{PATH}/hashes/{digest}", by=None)).body
        assert (told["revoked"], told["reason"], told["revoked_at"]) == (
            True, "identity_mismatch", "2021-10-30T02:12:00Z",
        )  # fmt: skip
    await api.call("POST", PATH + "/undo", {"uvci": issued["uvci"], "reason": "confirmed"}, by="admin")
    told = await api.call("GET", f"{PATH}/hashes/{hashes[HashType.UCI]}", by=None)
    assert (told.body["revoked"], told.headers["Cache-Control"]) == (False, "no-store")
    for bad in ("x" * 32, "0" * 31, "0" * 33, "0" * 30):
        assert (await api.call("GET", f"{PATH}/hashes/{bad}", by=None)).status == 422


async def test_snapshots_and_deltas(api: Api) -> None:
    services = api.world.services
    some = [await api.issue(f"D-{number}") for number in range(3)]
    empty = await api.call("GET", PATH + "/snapshot", by=None)
    assert (empty.status, empty.headers["ETag"]) == (200, '"v1"')
    await revoke(api, some[0]["uvci"])
    await revoke(api, some[1]["uvci"])
    assert (await publish_snapshot(services)).version == 2
    await api.call("POST", PATH + "/undo", {"uvci": some[0]["uvci"], "reason": "mistake"}, by="admin")
    await revoke(api, some[2]["uvci"])
    assert [(await publish_snapshot(services)).version for _ in "12"] == [3, 3], "nothing changed: no new version"
    whole = await api.call("GET", PATH + "/snapshot", by=None)
    assert whole.headers["ETag"] == '"v3"'
    delta = await api.call("GET", PATH + "/delta?from=1", by=None)
    start = open_snapshot(empty.body, **believe(api))
    assert apply_delta(start, delta.body, **believe(api)) == whole.body
    book = SnapshotRevocations(open_snapshot(whole.body, **believe(api)))
    found = [book.find(subject_of(decode_hcert(one["certificate"]["hcert"]))) is not None for one in some]
    assert found == [False, True, True]
    newest = {"If-None-Match": '"v3"'}
    assert (await api.call("GET", PATH + "/snapshot", by=None, headers=newest)).status == 304
    assert (await api.call("GET", PATH + "/delta?from=3", by=None)).status == 304
    for version in (0, 4, 99):
        answer = await api.call("GET", f"{PATH}/delta?from={version}", by=None)
        assert (answer.status, answer.body["code"]) == (404, "no_delta")
    assert (await api.call("GET", PATH + "/delta?from=x", by=None)).status == 422


async def test_a_snapshot_is_renewed_before_it_ends(api: Api) -> None:
    issued = await api.issue()
    await revoke(api, issued["uvci"])
    services = api.world.services
    first = await publish_snapshot(services)
    api.world.clock.now += timedelta(days=3)
    assert (await publish_snapshot(services)).version == first.version
    api.world.clock.now += timedelta(days=1)
    second = await publish_snapshot(services)
    assert (second.version, second.count) == (first.version + 1, 1)
    api.world.clock.now += timedelta(days=30)
    answer = await api.call("GET", PATH + "/snapshot", by=None)
    assert open_snapshot(answer.body, **believe(api)).manifest.version == 3, "nobody is given an expired one"
    api.world.clock.now += timedelta(days=340)
    assert (await publish_snapshot(services)).count == 0, "the certificate itself has expired"


async def test_a_snapshot_of_a_signer_that_ended_does_not_wait_for_its_time(api: Api) -> None:
    services, now = api.world.services, api.world.clock.now
    assert not await is_signed_by_another(services), "there is none yet"
    first = await publish_snapshot(services)
    assert not await is_signed_by_another(services)
    csca_key, key, names = make_private_key(), make_private_key(), {"organisation": "MOH", "common_name": "VN"}
    csca = make_csca(csca_key, country="VN", serial=1, now=now, **names)
    dsc = make_dsc(key.public_key(), csca=csca, csca_key=csca_key, serial=2, now=now, **names)
    rotated = replace(services, signers=LocalSigners([LocalSigner(dsc, key)]))
    assert await is_signed_by_another(rotated)
    assert (await publish_snapshot(rotated)).version == first.version + 1
    assert not await is_signed_by_another(rotated)


async def test_processes_that_publish_at_once_make_one_version(api: Api) -> None:
    issued = await api.issue()
    await revoke(api, issued["uvci"])
    made = await asyncio.gather(*(publish_snapshot(api.world.services) for _ in range(4)))
    assert {one.version for one in made} == {1}


async def test_batches_of_the_eu(api: Api) -> None:
    some = [await api.issue(f"D-{number}") for number in range(3)]
    for one in some:
        await revoke(api, one["uvci"])
    listed = (await api.call("GET", PATH + "/batches", by=None)).body
    (info,) = listed["batches"]
    assert (listed["more"], info["country"], info["deleted"]) == (False, "VN", False)
    for kind in HashType:
        body = (await api.call("GET", f"{PATH}/batches/{info['batchId']}?hash_type={kind}", by=None)).body
        batch = Batch.from_json(body)
        wanted = {revocation_hashes(kind, subject_of(decode_hcert(one["certificate"]["hcert"])))[0] for one in some}
        assert (set(batch.entries), batch.hash_type) == (wanted, kind)
        assert base64.b64encode(batch.kid).decode() == body["kid"]
        assert batch.kid.hex() == some[0]["certificate"]["kid"]
    await api.call("POST", PATH + "/undo", {"uvci": some[0]["uvci"], "reason": "mistake"}, by="admin")
    body = (await api.call("GET", f"{PATH}/batches/{info['batchId']}", by=None)).body
    assert len(body["entries"]) == 2, "what was undone is gone"
    api.world.clock.now += timedelta(days=366)
    (info,) = (await api.call("GET", PATH + "/batches", by=None)).body["batches"]
    assert info["deleted"], "all have expired"
    assert (await api.call("GET", f"{PATH}/batches/{info['batchId']}", by=None)).status == 404
    assert (await api.call("GET", f"{PATH}/batches?after={info['batchId']}", by=None)).body["batches"] == []
    for bad in ("x", "00-1", "00-", "-0", "zz-0", "00-99999999999999999999"):
        assert (await api.call("GET", f"{PATH}/batches/{bad}", by=None)).status == 404, bad
    assert (await api.call("GET", f"{PATH}/batches/{info['batchId']}?hash_type=x", by=None)).status == 422

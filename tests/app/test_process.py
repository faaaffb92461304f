"""The service as a process: killed and started again, doubled, stopped."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

from printsvc_service_harness import Service, recent, run


def test_killed_in_the_middle_nothing_acknowledged_is_lost_and_no_certificate_doubles(own_service: Service) -> None:
    acknowledged: dict[str, str] = {}
    attempted: dict[str, dict[str, object]] = {}
    stop = threading.Event()

    def send(worker: int) -> None:
        for number in range(10_000):
            if stop.is_set():
                return
            batch = [recent(f"K-{worker}-{number}") for _ in range(5)]
            attempted.update({event["dose_id"]: event for event in batch})
            body = b"\n".join(json.dumps(event).encode() for event in batch)
            try:
                _, answer = own_service.call("POST", "/v1/doses", body, by="platform", media="application/x-ndjson")
            except OSError:
                return
            for line in answer.splitlines():
                one = json.loads(line)
                acknowledged[one["dose_id"]] = one["uvci"]

    threads = [threading.Thread(target=send, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    own_service.wait_for(lambda: len(acknowledged) > 60)
    own_service.stop(signal.SIGKILL)
    stop.set()
    for thread in threads:
        thread.join()

    own_service.start()
    sent_at = {dose_id: own_service.call("GET", f"/v1/doses/{dose_id}") for dose_id in attempted}
    stored = {dose_id: body["uvci"] for dose_id, (status, body) in sent_at.items() if status == 200}
    assert acknowledged.items() <= stored.items(), "what was acknowledged is there, with the same certificate"
    _, stats = own_service.call("GET", "/v1/stats")
    assert stats["doses"] == stats["certificates"] == len(stored)
    assert stats["unaccounted"] == 0
    assert sum(stats["papers"].values()) == len(stored), "one job each"

    # Sent again, everything gets its one certificate: the old one where there was one.
    for dose_id, event in attempted.items():
        status, answer = own_service.call("POST", "/v1/doses", event, by="platform")
        assert status == (200 if dose_id in stored else 201)
        assert answer["uvci"] == stored.get(dose_id, answer["uvci"])
    _, stats = own_service.call("GET", "/v1/stats")
    assert stats["certificates"] == len(attempted)


def test_a_replay_after_a_crash_gets_the_stored_answer(own_service: Service) -> None:
    event = recent("R")
    status, first = own_service.call("POST", "/v1/doses", event, by="platform")
    assert status == 201
    keys = sorted(path.name for path in (own_service.data_dir / "keys").iterdir())
    token = own_service.token("platform")
    own_service.stop(signal.SIGKILL)
    own_service.start()
    status, again = own_service.call("POST", "/v1/doses", event, by="platform")
    assert (status, again) == (200, first | {"replayed": True})
    assert sorted(path.name for path in (own_service.data_dir / "keys").iterdir()) == keys, "no second signer"
    assert own_service.token("platform") == token


def test_a_lease_outlives_the_service(own_service: Service) -> None:
    token = own_service.enrol()
    _, issued = own_service.call("POST", "/v1/doses", recent("L"), by="platform")
    request = {"journal_id": "j-HN-1", "capacity": 5, "wait_s": 10}
    _, first = own_service.call("POST", "/agent/v1/lease", request, by=token)
    (job,) = first["jobs"]
    assert job["job_id"] == issued["job_id"]
    own_service.stop(signal.SIGKILL)
    own_service.start()
    holding = [{"job_id": job["job_id"], "fencing_token": job["fencing_token"]}]
    _, again = own_service.call("POST", "/agent/v1/lease", request | {"wait_s": 0, "holding": holding}, by=token)
    assert (again["jobs"], again["renewed"]) == ([], holding)
    status, pdf = own_service.call("GET", f"/agent/v1/documents/{job['document']['sha256']}", by=token)
    assert (status, pdf[:5]) == (200, b"%PDF-")
    event = {"seq": 1, "kind": "printed", "job_id": job["job_id"], "fencing_token": 1, "at": "2026-01-01T00:00:00Z"}
    _, told = own_service.call("POST", "/agent/v1/report", {"journal_id": "j-HN-1", "events": [event]}, by=token)
    assert told["results"][0]["outcome"] == "applied"


def test_a_second_process_on_the_same_folder_is_refused(service: Service) -> None:
    second = run("up", "--data-dir", str(service.data_dir), "--port", "0")
    assert second.returncode == 1
    assert second.stdout == b""
    lines = second.stderr.decode().splitlines()
    assert lines[0].startswith("printsvc: Another process has printsvc.db open.")
    assert len(lines) == 2, "a sentence in each language, no traceback"
    assert service.call("GET", "/healthz", by=None)[0] == 200


def test_terminated_it_ends_well(own_service: Service) -> None:
    workers = own_service.workers()
    assert workers
    assert own_service.stop(signal.SIGTERM) == 0
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in own_service.log.read_text()


def test_killed_its_workers_end_with_it(own_service: Service) -> None:
    workers = own_service.workers()
    assert workers, "without any, nothing would be shown"
    own_service.stop(signal.SIGKILL)
    own_service.wait_for(lambda: not [pid for pid in workers if Path(f"/proc/{pid}").exists()])


def test_only_the_owner_reads_keys_and_tokens(service: Service) -> None:
    databases = list(service.data_dir.glob("printsvc.db*"))
    assert {path.name for path in databases} >= {"printsvc.db", "printsvc.db-wal", "printsvc.db-shm"}
    for path in (service.data_dir, *databases):
        assert path.stat().st_mode & 0o077 == 0, path.name
    for name in ("keys", "dev"):
        folder = service.data_dir / name
        assert folder.stat().st_mode & 0o077 == 0
        for path in folder.iterdir():
            if path.suffix in (".pem", ".token", ".passphrase"):
                assert path.stat().st_mode & 0o077 == 0, path.name

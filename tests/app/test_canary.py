"""Personal data is in the database and on the paper, and nowhere else: not in logs, metrics, file names or caches."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading

from printsvc_service_harness import Service, recent, run

NAME, GIVEN, NUMBER, PHONE, STREET = "Chimhoàngyến", "Rấtlạ", "001190777881", "0977123987", "Ngõ Bímật"
SITE = "HN-CANARY"  # of its own: the papers that other tests owe HN-1 would come first
CANARIES = (NAME, NAME.upper(), "CHIMHOANGYEN", GIVEN, NUMBER, PHONE, STREET, "ch\\u00edm", "Chimho\\u00e0ngy\\u1ebfn")


def canary(name: str, **person: str) -> dict[str, object]:
    data = {"full_name": f"{NAME} {GIVEN}", "sex": "female", "id_number": NUMBER, "phone": PHONE, "address": STREET}
    return recent(name, **(data | person)) | {"site_id": SITE}


def test_no_personal_data_leaks(service: Service) -> None:
    def post(body: object, path: str = "/v1/doses", **more: str | None) -> tuple[int, object]:
        return service.call("POST", path, body, **({"by": "platform"} | more))  # type: ignore[arg-type]

    service.add_site(SITE)
    logged_before = service.log.stat().st_size
    event = canary("C")
    status, issued = post(event)
    assert status == 201
    job_id = issued["job_id"]  # type: ignore[index]
    assert post(canary("C", id_number=NUMBER[:-1]))[0] == 202
    assert post(event | {"person": canary("C", phone=PHONE + "0")["person"]})[0] == 409
    for wrong in ({"full_name": f"{NAME}\r\n{GIVEN}"}, {"full_name": f"{NAME}\u202e"}, {"phone": f"x{PHONE}"}):
        status, problem = post(canary("C", **wrong))
        assert status == 422
        assert not [word for word in CANARIES if word in json.dumps(problem, ensure_ascii=False)]
    assert post(canary("C", **{NAME: "x"}))[0] == 422
    assert post(f'{{"person": "{NAME}'.encode())[0] == 422
    assert post({"code": f"HC1:{NAME}"}, "/v1/verify", by=None)[0] == 200
    assert post({"person": canary("C")["person"]}, "/v1/identity-checks")[0] == 200
    for path in (f"/v1/certificates/{NUMBER}", f"/v1/doses/{NUMBER}/{PHONE}", f"/{NUMBER}?q={PHONE}"):
        assert service.call("GET", path)[0] == 404
    host, port = service.url.removeprefix("http://").split(":")
    for raw in (f"GET /{NUMBER} HTTP/1.1\r\n{PHONE}\r\n\r\n", f"{NAME} {NUMBER}\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=60) as line:
            line.sendall(raw.encode())
            assert line.recv(12)

    # The renderer dies with the page in its hands, again and again.
    token = service.enrol(SITE)
    stop, struck = threading.Event(), threading.Event()

    def kill() -> None:
        while not stop.is_set():
            for pid in service.workers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            struck.set()
            stop.wait(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert struck.wait(60), "a renderer that is warm would have drawn the page before"
        status, leased = post({"journal_id": f"j-{SITE}", "capacity": 5, "wait_s": 0}, "/agent/v1/lease", by=token)
    finally:
        stop.set()
        killer.join()
    assert (status, leased["jobs"]) == (200, [])  # type: ignore[index]
    _, job = service.call("GET", f"/v1/print-jobs/{job_id}")
    assert (job["state"], job["state_reason"]) == ("failed", "render_crashed")
    assert service.call("POST", f"/v1/print-jobs/{job_id}/retry")[0] == 200
    _, leased = post({"journal_id": f"j-{SITE}", "capacity": 5, "wait_s": 0}, "/agent/v1/lease", by=token)
    assert leased["jobs"] == [], "on the list of poisoned pages: no third process dies of it"  # type: ignore[index]
    assert service.call("GET", f"/v1/print-jobs/{job_id}")[1]["state_reason"] == "render_crashed"

    log = service.log.read_bytes()[logged_before:]
    assert log, "there is something to look at"
    _, metrics = service.call("GET", "/metrics", by=None)
    names = "\n".join(str(path) for path in service.data_dir.rglob("*"))
    others = b"".join(
        path.read_bytes()
        for path in service.data_dir.rglob("*")
        if path.is_file() and not path.name.startswith("printsvc.db")
    )
    places = {"log": log, "metrics": metrics, "file names": names.encode(), "other files": others}
    for place, content in places.items():
        for word in CANARIES:
            assert word.encode() not in content, f"{word} in {place}"
        assert service.token("admin").encode() not in content or place == "other files"


def test_the_log_is_one_json_object_a_line(service: Service) -> None:
    service.call(
        "POST", "/v1/doses", canary("N", full_name='A\r\n{"level": "error", "event": "forged"}'), by="platform"
    )
    service.call("GET", "/v1/doses/%0d%0a%7b%22event%22:%22forged%22%7d")
    lines = service.log.read_text().splitlines()
    for line in lines:
        entry = json.loads(line)
        assert {"event", "level", "timestamp"} <= set(entry), line
        assert entry["event"] != "forged"


def test_a_wrong_database_password_is_not_told() -> None:
    url = "postgresql://printsvc:Chimhoangyen@127.0.0.1:1/printsvc"
    for arguments in (("migrate",), ("serve", "--port", "0")):
        ended = run(*arguments, PRINTSVC_DATABASE_URL=url, PRINTSVC_KEY_PASSPHRASE="x")
        assert ended.returncode == 1
        assert b"Chimhoangyen" not in ended.stderr + ended.stdout
        assert b"Traceback" not in ended.stderr

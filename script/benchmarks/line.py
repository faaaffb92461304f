"""line: bytes and seconds a certificate over a poor line, its page as PDF and as data.

The real parts: service, agent, cupsd, virtual printers; between agent and service a line of 64 kbit/s with 600 ms there
and back, in user space (`lab.poorline`), which counts the bytes. Doses come one by one, then many at once.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lab import PDF
from lab.poorline import PoorLine
from lab.processes import wait_until
from stack.stack import SitePlan, Stack

from benchmarks.measure import Plan, percentile, share_cache
from benchmarks.people import SITES, dose_events
from spooler.link import Link
from spooler.protocol import LeaseAnswer, LeaseRequest, LineAnswer

CERTIFICATES = 15
BITS_PER_S = 64_000
ROUND_TRIP_S = 0.6
EVERY_S = 5.0
FORM = "a4/43-2022"
SETTLED_S = 4.0  # the last report is on its way
PATIENCE_S = 600.0
POLL_S = 26.0


def run(plan: Plan) -> dict[str, Any]:
    """Return the figures; docs/bench.md says what each means. `--count` is how many certificates come each time."""
    count = plan.count or CERTIFICATES
    figures: dict[str, Any] = {
        "bits_per_s": BITS_PER_S,
        "round_trip_ms": round(1000 * ROUND_TRIP_S),
        "certificates": count,
        "as_pdf": measure(plan, count, as_data=False),
        "as_data": measure(plan, count, as_data=True),
    }
    figures["ratio_bytes"] = round(figures["as_pdf"]["bytes_each"] / figures["as_data"]["bytes_each"], 1)
    figures["tls"] = asyncio.run(tls_overhead())
    return figures


def measure(plan: Plan, count: int, *, as_data: bool) -> dict[str, Any]:
    """Return the figures of one way."""
    name = "data" if as_data else "PDF"
    site_id, title, authority = SITES[0]
    site = SitePlan(site_id, title, authority, (("one", (PDF,)), ("two", (PDF,))))
    lines: list[PoorLine] = []

    def between(url: str) -> str:
        lines.append(PoorLine(int(url.rpartition(":")[2]), bits_per_s=BITS_PER_S, round_trip_s=ROUND_TRIP_S))
        return lines[0].url

    environment = {} if as_data else {"PRINTSVC_SPOOLER_STAMPS": "false", "PRINTSVC_SPOOLER_PACKS": "false"}
    with tempfile.TemporaryDirectory(prefix="printsvc-line-") as folder:
        share_cache(plan, Path(folder) / "service")
        try:
            with Stack(
                Path(folder), [site], told=told, forms=[FORM], agent_environment=environment, agent_url=between
            ) as stack:
                line = lines[0]
                state = stack.sites[site_id].agent.state_dir
                told(f"as {name}: the agent enrols" + (" and fetches the compiled form" if as_data else ""))
                wait_until(lambda: bool(stack.service.api("admin").get("/v1/printers")["printers"]), 120, "printers")
                if as_data:
                    wait_until(lambda: any((state / "forms").glob("*.cbor")), PATIENCE_S, "the compiled form")
                    time.sleep(POLL_S)  # a poll that was open before knows nothing of it: one page more as PDF
                time.sleep(SETTLED_S)
                set_up = sum(line.bytes())
                events = dose_events(plan.seed, now=datetime.now(UTC))
                told(f"as {name}: {count} doses, one every {EVERY_S:g} s")
                one_by_one = doses(stack, line, [next(events) | {"site_id": site_id} for _ in range(count)], EVERY_S)
                told(f"as {name}: {count} doses at once")
                at_once = doses(stack, line, [next(events) | {"site_id": site_id} for _ in range(count)], 0.0)
                idle_from = sum(line.bytes())
                began = time.monotonic()
                time.sleep(60 if plan.seconds is None else min(60, plan.seconds))
                idle = (sum(line.bytes()) - idle_from) / (time.monotonic() - began)
                counts = json.loads((state / "line.json").read_text()) if (state / "line.json").exists() else {}
        finally:
            for one in lines:
                one.close()
    up, down = one_by_one["bytes"]
    return {
        "bytes_each": round((up + down) / count),
        "bytes_up_each": round(up / count),
        "bytes_down_each": round(down / count),
        "s_p50": round(percentile(one_by_one["s"], 50), 2),
        "s_p99": round(percentile(one_by_one["s"], 99), 2),
        "at_once_bytes_each": round(sum(at_once["bytes"]) / count),
        "at_once_s_each": round(at_once["all_s"] / count, 2),
        "idle_bytes_an_hour": round(3600 * idle),
        "set_up_bytes": set_up,
        "agent_counted": {name: counts[name] for name in ("stamped", "fetched", "mismatched") if name in counts},
    }


def doses(stack: Stack, line: PoorLine, events: list[dict[str, Any]], every_s: float) -> dict[str, Any]:
    """Post the doses and wait for the papers and the word of them; return bytes and seconds."""
    before = line.bytes()
    printed = stack.stats()["printed"]
    sheets = {event.job_name: event for printer in stack.printers.values() for event in printer.truth()}
    began = time.monotonic()
    accepted: dict[str, datetime] = {}
    for number, event in enumerate(events):
        time.sleep(max(0.0, began + number * every_s - time.monotonic()))
        (answer,) = stack.post_doses([json.dumps(event).encode()])
        accepted[answer["job_id"]] = datetime.now(UTC)
    stack.wait_for_papers(printed + len(events), PATIENCE_S)
    all_s = time.monotonic() - began
    time.sleep(SETTLED_S)
    after = line.bytes()
    arrived = {
        event.job_name.removeprefix("ps-").rsplit("-", 2)[0]: datetime.fromisoformat(event.at)
        for printer in stack.printers.values()
        for event in printer.truth()
        if event.event == "started" and event.job_name not in sheets
    }
    took = [(arrived[job_id] - at).total_seconds() for job_id, at in accepted.items()]
    return {"bytes": (after[0] - before[0], after[1] - before[1]), "s": took, "all_s": all_s}


async def tls_overhead() -> dict[str, int]:
    """What TLS adds, on the loopback: bytes of a new connection, and of each exchange on one that is kept."""

    async def post(request: web.Request) -> web.Response:
        from spooler import compact

        await request.read()
        lease = LeaseAnswer(server_time=datetime.now(UTC), line=1)
        if request.path.endswith("/line"):
            return web.Response(body=compact.pack(LineAnswer(lease=lease)))
        return web.Response(body=lease.model_dump_json().encode(), content_type="application/json")

    application = web.Application()
    application.router.add_post("/agent/v1/{verb}", post)
    runner = web.AppRunner(application)
    await runner.setup()
    with tempfile.TemporaryDirectory() as folder:
        context = make_certificate(Path(folder))
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        plain, secure = (address[1] for address in runner.addresses)
        asked = LeaseRequest(journal_id="0" * 32, capacity=1)
        counted: dict[str, list[int]] = {}
        for scheme, port in (("http", plain), ("https", secure)):
            link = Link(f"{scheme}://127.0.0.1:{port}", token="ps_" + "0" * 64, ca_file=Path(folder) / "cert.pem")
            counted[scheme] = []
            for _ in range(4):
                await link.lease(asked)
                counted[scheme].append(link.meter.bytes_up + link.meter.bytes_down)
            await link.close()
    await runner.cleanup()
    first = counted["https"][0] - counted["http"][0]
    each = (counted["https"][3] - counted["https"][1] - counted["http"][3] + counted["http"][1]) / 2
    return {"connection_bytes": first - round(each), "exchange_bytes": round(each)}


def make_certificate(folder: Path) -> ssl.SSLContext:
    """Make a key and a certificate of the loopback; return the server's context."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def told(what: str) -> None:
    print(what, file=sys.stderr, flush=True)

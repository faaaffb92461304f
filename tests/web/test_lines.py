"""What went over the sites' lines: told by the agents, listed, summed in the metrics."""

from __future__ import annotations

import asyncio
from typing import Any

from printsvc_api_harness import Api


async def tell(api: Api, token: str, journal_id: str, **counts: int) -> None:
    await api.lease(token, journal_id=journal_id, capacity=0, counts=counts)


async def lines(api: Api, by: str = "admin", query: str = "") -> list[dict[str, Any]]:
    """Return the list once what was told is written."""
    await asyncio.sleep(0)
    return list((await api.call("GET", f"/v1/lines{query}", by=by)).body["lines"])


async def test_agents_tell_what_went_over_their_lines(api: Api) -> None:
    assert await lines(api) == []
    first, token = await api.enrol()
    second, other = await api.enrol("HN-2", "journal-2")
    await tell(api, token, "journal-1", bytes_up=3000, bytes_down=6000, certificates=10, stamped=9, fetched=1)
    await tell(api, other, "journal-2", bytes_up=50, bytes_down=60)
    await tell(api, token, "journal-1", bytes_up=3100, bytes_down=6900, certificates=10, stamped=9, mismatched=2)
    for _ in range(200):  # written within a second or so
        if len(found := await lines(api)) == 2 and found[0]["mismatched"]:
            break
        await asyncio.sleep(0.05)
    assert found == [
        {
            "site_id": "HN-1", "agent_id": first, "bytes_up": 3100, "bytes_down": 6900, "certificates": 10,
            "stamped": 9, "fetched": 0, "mismatched": 2, "bytes_a_certificate": 1000,
        },
        {
            "site_id": "HN-2", "agent_id": second, "bytes_up": 50, "bytes_down": 60, "certificates": 0,
            "stamped": 0, "fetched": 0, "mismatched": 0, "bytes_a_certificate": None,
        },
    ]  # fmt: skip
    assert [line["site_id"] for line in await lines(api, "site")] == ["HN-1"]
    assert [line["site_id"] for line in await lines(api, query="?site_id=HN-2")] == ["HN-2"]
    assert (await api.call("GET", "/v1/lines", by="platform")).status == 403
    metrics = (await api.call("GET", "/metrics", by=None)).body.decode()
    assert 'printsvc_line_bytes{direction="up"} 3150.0' in metrics
    assert 'printsvc_line_pages{how="mismatched"} 2.0' in metrics
    assert "printsvc_line_certificates 10.0" in metrics


async def test_an_idle_poll_writes_nothing_itself_and_its_moment_is_written_for_all(api: Api) -> None:
    agent_id, token = await api.enrol()
    await api.lease(token)
    written: list[Any] = []
    write = api.world.store.write

    async def counted(unit: Any) -> Any:
        written.append(unit)
        return await write(unit)

    object.__setattr__(api.world.store, "write", counted)
    later = api.world.clock.advance(30)
    for _ in range(20):
        assert (await api.lease(token))["jobs"] == []
    for _ in range(200):
        (agent,) = (await api.call("GET", "/v1/sites/HN-1/agents", by="admin")).body["agents"]
        if agent["seen_at"] == later.isoformat():
            break
        await asyncio.sleep(0.05)
    assert (agent["agent_id"], agent["seen_at"]) == (agent_id, later.isoformat())
    assert len(written) < 10, "twenty polls share what is written"

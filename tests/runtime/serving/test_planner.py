"""The planner beside real workers: it looks, decides, writes down why, and changes nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dyno_runtime.bus.etcd import EtcdStore
from dyno_runtime.core.scaling import Decision, again
from dyno_runtime.roles.planner import Told
from dyno_runtime.settings import Disagg, Planner
from tests.runtime.cluster import Cluster, Unit
from tests.runtime.serving.client import chat
from tests.servers import wait_for

pytestmark = pytest.mark.servers

QUICK = Planner(interval_s=0.8, pull_s=0.1)


def planned(unit: Unit) -> dict[str, Any]:
    """The last decision, as the process's figures show it; empty before the first one."""
    path = Path(unit.settings.health_path).parent / "figures.json"
    return dict(json.loads(path.read_text()).get("planned") or {}) if path.exists() else {}


def history(mocks: Cluster) -> list[Told]:
    """All decisions in etcd, oldest first."""

    async def read() -> list[Told]:
        store = EtcdStore((mocks.etcd_url,))
        try:
            found = await store.read(f"/{mocks.name}/planner/decisions/")
        finally:
            await store.close()
        return [msgspec.json.decode(value, type=Told) for _, value in sorted(found.entries.items())]

    return asyncio.run(read())


def test_decisions_rest_on_what_was_seen_and_can_be_made_again(mocks: Cluster):
    mocks.disagg = Disagg("conditional")
    front = mocks.add("node1", "frontend", "processor", "router", "planner", planner=QUICK)
    for _ in range(2):
        mocks.add("node1", "decode")
    mocks.add("node1", "prefill")
    mocks.ready()
    for number in range(4):
        assert chat(front.url, f"number {number}", max_tokens=5, ignore_eos=True, stream=True).status == 200

    def wishes_for_fewer() -> bool:
        told = planned(front).get("decision", {})
        return bool(told) and told["decode"]["wish"] == 1 and told["seen"]["figures"]["tokens_per_s"] > 0

    wait_for(wishes_for_fewer, "an idle cluster of two decode workers is too large")
    told = planned(front)
    assert told["by"] == "node1/frontend-0"
    assert told["acted"] is False
    decision = told["decision"]
    assert decision["decode"] == {"now": 2, "wish": 1, "why": "the KV load was 0 on average, below 0.5"}
    assert decision["prefill"]["now"] == decision["prefill"]["wish"] == 1
    assert decision["seen"]["looks"] >= 2
    assert decision["seen"]["figures"]["first_token_p50_s"] > 0
    assert all(unit.process is not None and unit.process.poll() is None for unit in mocks.units)

    written = history(mocks)
    assert len(written) >= 1
    assert [again(one.decision) for one in written] == [one.decision for one in written]
    assert msgspec.convert(decision, Decision) in [one.decision for one in written]
    assert "would have 1 decode worker instead of 2: the KV load was 0 on average, below 0.5" in front.log


def test_a_planner_of_its_own_goes_on_without_workers_and_without_nats(mocks: Cluster, own_nats: Any):
    mocks.nats_url = own_nats.url
    mocks.disagg = Disagg("conditional")
    planner = mocks.add("node1", "planner", planner=QUICK)
    decode = mocks.add("node1", "decode")
    mocks.add("node1", "prefill")
    mocks.ready()
    wait_for(lambda: planned(planner).get("decision", {}).get("decode", {}).get("now") == 1, "it sees decode")
    own_nats.kill()
    assert decode.end() == 0

    def alone() -> bool:
        told = planned(planner).get("decision", {})
        return bool(told) and told["decode"]["why"] == "no decode worker could be asked"

    wait_for(alone, "it decides without anybody", 30.0)
    assert planned(planner)["decision"]["prefill"]["why"] == "the prefill queue could not be asked"
    assert planner.process is not None
    assert planner.process.poll() is None

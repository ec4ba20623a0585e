"""Every role of a real cluster is scraped as Prometheus does it, and what it shows is what happened."""

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dyno_runtime.metrics.names import METRICS
from dyno_runtime.settings import Disagg, Endpoint
from tests.runtime.cluster import Cluster, Unit, request
from tests.runtime.serving.client import chat, post
from tests.servers import free_port, wait_for

pytestmark = pytest.mark.servers

LONG = "a prompt that is long enough to be prefilled by somebody else, one token for each of its bytes"


def scraped(unit: Unit) -> dict[str, float]:
    """Samples by name and label values, `dyno_bus_up{etcd}`."""
    at = unit.settings.metrics or unit.settings.http
    assert at is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{at.port}/metrics", timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        text = answer.read().decode()
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {
        one.name + (f"{{{','.join(one.labels.values())}}}" if one.labels else ""): one.value
        for one in samples
    }


def families(unit: Unit) -> set[str]:
    """The names of all metrics of a process, whether anything was counted or not."""
    at = unit.settings.metrics or unit.settings.http
    assert at is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{at.port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {line.split()[2] for line in lines if line.startswith("# TYPE ")}


def own_port() -> Endpoint:
    return Endpoint("127.0.0.1", free_port())


def test_every_role_shows_what_it_did_and_every_metric_is_shown_by_one(mocks: Cluster):
    mocks.disagg = Disagg("conditional", max_local_prefill_length=32)
    front = mocks.add("node1", "frontend", merge_deltas=False)
    processor, router, decode, prefill = (
        mocks.add("node1", role, metrics=own_port()) for role in ("processor", "router", "decode", "prefill")
    )
    mocks.add("node1", "planner", metrics=own_port())
    mocks.ready()
    asked = {"x-dyno-prefill": "remote"}
    said = chat(front.url, LONG, headers=asked, max_tokens=20, ignore_eos=True, stream=True)
    assert said.headers["x-dyno-prefill"].startswith("remote:")
    assert chat(front.url, "short", max_tokens=5, ignore_eos=True).status == 200
    assert post(front.url, "/v1/chat/completions", {"model": "nobody", "messages": []}).status in (400, 404)

    found = scraped(front)
    assert found["dyno_requests_total{200}"] == 2
    assert sum(value for name, value in found.items() if name.startswith("dyno_rejections_total")) == 1
    assert found["dyno_answer_tokens_total"] == 25
    assert found["dyno_prompt_tokens_total"] > len(LONG)
    assert found["dyno_time_to_first_token_seconds_count"] == 2
    assert found["dyno_inter_token_latency_seconds_count"] == 19, "between the 20 tokens of the stream"
    assert found["dyno_request_duration_seconds_count"] == 2
    assert found["dyno_bus_up{etcd}"] == found["dyno_bus_up{nats}"] == found["dyno_registered"] == 1
    assert found["dyno_instances{decode}"] == 1

    assert scraped(processor)["dyno_prepared_requests_total"] == 2
    routed = scraped(router)
    assert routed["dyno_routed_requests_total"] == 2
    assert routed["dyno_routed_blocks_total"] >= 6
    assert routed["dyno_followed_workers"] == 1
    worked = scraped(decode)
    assert (worked["dyno_prefills_total{remote}"], worked["dyno_prefills_total{local}"]) == (1, 1)
    assert worked["dyno_remote_prefill_seconds_count"] == 1
    assert worked["dyno_kv_transfers_total{received}"] == 1
    assert worked["dyno_kv_received_bytes_total"] == scraped(prefill)["dyno_kv_sent_bytes_total"] > 0
    assert worked["dyno_engine_prompt_tokens_total{external_kv_transfer}"] >= len(LONG)
    assert worked["dyno_queue_seconds_count"] == 2
    assert worked["dyno_kv_blocks{total}"] == 8192
    assert worked["dyno_engine_ready"] == 1
    pulled = scraped(prefill)
    assert pulled["dyno_prefill_tasks_total{done}"] == pulled["dyno_prefill_seconds_count"] == 1
    assert pulled["dyno_prefill_queue_tasks"] == 0

    shown = set().union(*(families(unit) for unit in mocks.units))
    assert shown == {one.name for one in METRICS}

    assert decode.settings.metrics is not None
    wrong = request(f"http://127.0.0.1:{decode.settings.metrics.port}/v1/models", None, {})
    assert (wrong.status, wrong.json["error"]["message"]) == (
        404,
        "there is no /v1/models here, only /metrics",
    )


def test_the_last_minute_is_in_a_file_and_names_this_process(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode")
    mocks.ready()
    chat(front.url, "hi", max_tokens=7, ignore_eos=True)
    path = Path(front.settings.health_path).parent / "figures.json"

    def told() -> bool:
        return path.exists() and "dyno_answer_tokens_total" in path.read_text()

    wait_for(told, "the file tells of the tokens")
    found = json.loads(path.read_text())
    assert front.process is not None
    assert found["pid"] == front.process.pid
    assert found["minute"]["moved"]["dyno_answer_tokens_total"] == 7
    assert found["minute"]["moved"]["dyno_requests_total{200}"] == 1
    first = found["minute"]["histograms"]["dyno_time_to_first_token_seconds"]
    assert sum(first["counts"]) == 1
    assert len(first["counts"]) == len(first["bounds"]) + 1


def test_a_taken_port_for_metrics_ends_the_start_with_its_name(mocks: Cluster):
    taken = own_port()
    first = mocks.add("node1", "decode", metrics=taken)
    wait_for(lambda: bool(first.health()), "the first one runs")
    second = mocks.add("node1", "decode", metrics=taken)
    assert second.wait() == 1
    assert f"cannot listen for HTTP on 127.0.0.1:{taken.port}: address already in use" in second.log


def test_answers_that_went_on_elsewhere_are_counted(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    mocks.add("node1", "decode", args={"speedup": 1, "faults": {"die_after_tokens": 40}})
    mocks.add("node2", "decode", args={"speedup": 1})
    mocks.ready()

    def one(number: int) -> int:
        return chat(front.url, f"number {number}", max_tokens=30, ignore_eos=True, stream=True).status

    with ThreadPoolExecutor(8) as clients:
        assert set(clients.map(one, range(8))) == {200}
    found = scraped(front)
    assert found["dyno_migrations_total{peer_lost}"] >= 1
    assert found["dyno_requests_total{200}"] == 8
    assert not any(name.startswith("dyno_rejections_total") for name in found)


def test_without_measuring_nothing_is_counted_and_requests_are_served(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router", measured=False)
    mocks.add("node1", "decode")
    mocks.ready()
    assert chat(front.url, "hi", max_tokens=7, stream=True).status == 200
    found = scraped(front)
    assert found["dyno_answer_tokens_total"] == found["dyno_time_to_first_token_seconds_count"] == 0

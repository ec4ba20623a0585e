"""The hello-world deployments, with real processes: aggregated, disaggregated, fused, apart, replicated."""

from __future__ import annotations

import itertools
import json
import signal
import urllib.request
from typing import get_args

import pytest

from dyno_runtime.settings import Disagg, RoleName, Routing
from tests.runtime.cluster import Cluster, ask, request
from tests.servers import wait_for

pytestmark = pytest.mark.servers

JOKE, SERIES, FACT = "Tell me a joke", "Which team won 2020 World Series", "Tell me a fact"


def test_aggregated_as_the_example_says(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor", "router")
    cluster.add("node1", "decode")
    cluster.add("node2", "decode")
    cluster.ready()
    joke, series, fact = (ask(front, prompt, accept="text/event-stream") for prompt in (JOKE, SERIES, FACT))
    assert joke.json == {"worker_output": f"{JOKE}_GeneratedBy_NODE1", "request_id": "id_number"}
    assert series.json == {"worker_output": f"{SERIES}_GeneratedBy_NODE2", "request_id": "id_number"}
    assert fact.json == {"worker_output": f"{FACT}_GeneratedBy_NODE1", "request_id": "id_number"}
    assert (joke.headers["content-type"], joke.prefill) == ("application/json", "local")
    assert [one.worker for one in (joke, series, fact)] == [
        "node1/decode-0",
        "node2/decode-1",
        "node1/decode-0",
    ]


def test_disaggregated_through_the_prefill_worker_of_another_node(cluster: Cluster):
    cluster.disagg = Disagg(mode="always")
    front = cluster.add("node1", "frontend", "processor", "router")
    cluster.add("node1", "decode")
    cluster.add("node2", "decode")
    prefill = cluster.add("node3", "prefill")
    cluster.ready()
    prompts = ("This is prefill disagg serving example", SERIES)
    answers = [ask(front, prompt, x_dyno_prefill="remote") for prompt in prompts]
    assert {one.prefill for one in answers} == {"remote:node3/prefill-0"}
    assert len({one.worker for one in answers}) == 2
    # Without its prefill worker the cluster goes on alone.
    assert prefill.end() == 0
    wait_for(lambda: front.sees(prefill=0), "the prefill worker is gone")
    assert ask(front, JOKE).prefill == "local"


def test_conditional_sends_only_long_prompts_away(cluster: Cluster):
    cluster.disagg = Disagg(mode="conditional", max_local_prefill_length=10)
    front = cluster.add("node1", "frontend", "processor", "router")
    cluster.add("node1", "decode")
    cluster.add("node2", "prefill")
    cluster.ready()
    # A probe may ask for it however short it is, and however early it comes.
    assert ask(front, "x", x_dyno_prefill="remote").prefill == "remote:node2/prefill-0"
    assert ask(front, "x" * 10).prefill == "local"
    assert ask(front, "x" * 11).prefill == "remote:node2/prefill-0"


def test_every_role_in_a_process_of_its_own(cluster: Cluster):
    cluster.disagg = Disagg(mode="always")
    front = cluster.add("node1", "frontend")
    cluster.add("node1", "processor")
    cluster.add("node2", "router")
    cluster.add("node2", "decode")
    cluster.add("node3", "decode")
    cluster.add("node4", "prefill")
    cluster.ready()
    joke, series, fact = (ask(front, prompt, x_dyno_prefill="remote") for prompt in (JOKE, SERIES, FACT))
    assert joke.worker == fact.worker != series.worker
    assert {one.prefill for one in (joke, series, fact)} == {"remote:node4/prefill-0"}


def test_two_of_everything_route_alike(cluster: Cluster):
    cluster.disagg = Disagg(mode="always")
    for node in ("node1", "node2"):
        for role in get_args(RoleName):
            cluster.add(node, role)
    cluster.ready()
    fronts = [one for one in cluster.units if one.settings.roles == ("frontend",)]
    first = {prompt: ask(front, prompt) for front, prompt in zip(fronts, (JOKE, SERIES), strict=True)}
    assert first[JOKE].worker != first[SERIES].worker
    for front, prompt in itertools.product(fronts, (JOKE, SERIES, FACT)):
        expected = first[SERIES if prompt == SERIES else JOKE].worker
        assert ask(front, prompt).worker == expected
    # A router that goes takes nothing with it: the other one was told what it learned.
    for router in [one for one in cluster.units if one.settings.roles == ("router",)]:
        assert router.end() == 0
        wait_for(lambda: fronts[0].health()["sees"].get("router", 0) < 2, "the router is gone")
        assert [ask(fronts[0], prompt).worker for prompt in (SERIES, FACT)] == [
            first[SERIES].worker,
            first[JOKE].worker,
        ]
        break


def test_without_a_router_workers_take_turns(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor")
    cluster.add("node1", "decode")
    cluster.add("node2", "decode")
    cluster.ready()
    assert (
        sorted(ask(front, JOKE).worker for _ in range(4)) == ["node1/decode-0"] * 2 + ["node2/decode-1"] * 2
    )


def test_a_frontend_alone_goes_straight_to_the_workers(cluster: Cluster):
    front = cluster.add("node1", "frontend")
    cluster.add("node1", "decode")
    cluster.ready()
    assert ask(front, JOKE).json["worker_output"] == f"{JOKE}_GeneratedBy_NODE1"


def test_everything_in_one_process(cluster: Cluster):
    cluster.disagg = Disagg(mode="always")
    front = cluster.add("node1", "frontend", "processor", "router", "decode", "prefill")
    cluster.ready()
    answer = ask(front, JOKE, x_dyno_prefill="remote")
    assert (answer.worker, answer.prefill) == ("node1/frontend-0", "remote:node1/frontend-0")
    assert front.end() == 0


def test_round_robin_is_a_setting(cluster: Cluster):
    cluster.routing = Routing("round_robin")
    front = cluster.add("node1", "frontend", "processor", "router")
    cluster.add("node1", "decode")
    cluster.add("node2", "decode")
    cluster.ready()
    assert [ask(front, JOKE).worker for _ in range(3)].count("node1/decode-0") in (1, 2)


def test_probes_teach_nothing_and_hit_their_target(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor", "router")
    cluster.add("node1", "decode")
    second = cluster.add("node2", "decode")
    cluster.ready()
    assert ask(front, JOKE, x_dyno_probe="1", x_dyno_target="node2/decode-1").worker == "node2/decode-1"
    lease = second.role()["lease"]
    assert ask(front, JOKE, x_dyno_probe="1", x_dyno_target=lease).worker == "node2/decode-1"
    for prompt in (FACT, SERIES):
        ask(front, prompt, x_dyno_probe="1")
    # Had a probe been remembered, these would not come to the workers in their order.
    assert [ask(front, prompt).worker for prompt in (SERIES, JOKE)] == ["node1/decode-0", "node2/decode-1"]
    missing = ask(front, JOKE, x_dyno_target="node9/decode-0")
    assert (missing.status, missing.json["error"]) == (
        404,
        {
            "message": "there is no decode worker node9/decode-0",
            "type": "invalid_request_error",
            "param": None,
            "code": "not_found",
        },
    )


def test_no_worker_is_a_503_that_says_when_to_come_back(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor", "router")
    cluster.ready()
    answer = ask(front, JOKE)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.json["error"] == {
        "message": "there is no decode worker that could take the request",
        "type": "unavailable_error",
        "param": None,
        "code": "no_worker",
    }
    health = request(f"{front.url}/health", None, {})
    assert (health.status, health.json["status"]) == (503, "no worker")
    cluster.add("node1", "decode", args={"load_s": 1.0})
    wait_for(lambda: front.sees(decode=1), "registered while it loads")
    assert ask(front, JOKE).status == 503
    cluster.ready()
    assert ask(front, JOKE).status == 200
    health = request(f"{front.url}/health", None, {})
    assert (health.status, health.json["status"], health.json["instances"]["decode"]) == (200, "ok", 1)


BAD = [
    (b"", "Input data was truncated"),
    (b"[]", "Expected `object`, got `array`"),
    (b"{}", "Object missing required field `prompt`"),
    (b'{"prompt": 7}', "Expected `str`, got `int` - at `$.prompt`"),
    (b'{"prompt": "x", "promt": "y"}', "Object contains unknown field `promt`"),
    (b'{"prompt": "\\ud800"}', ""),
    (b'{"prompt": "\xff"}', ""),
    (b"[" * 100_000, ""),
]


def test_bad_requests_get_a_400_and_disturb_nobody(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor", "router", "decode")
    cluster.ready()
    for body, message in BAD:
        answer = request(f"{front.url}/generate", body, {})
        assert (answer.status, answer.json["error"]["code"]) == (400, "bad_request"), body[:50]
        assert answer.json["error"]["message"].startswith(f"the body is not what /generate takes: {message}")
    long = ask(front, "x" * 9000)
    assert (long.status, long.json["error"]["message"]) == (
        400,
        "the prompt is 9000 tokens long; this model takes at most 8192",
    )
    wrong = request(f"{front.url}/generate", None, {})
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert (
        request(f"{front.url}/nothing", None, {}).json["error"]["message"]
        == "there is no /nothing; /openapi.json says what there is"
    )
    umlauts = ask(front, "Grüße 🎉 \u0000")
    assert umlauts.json["worker_output"] == "Grüße 🎉 \u0000_GeneratedBy_NODE1"
    own = json.loads(urllib.request.urlopen(f"{front.url}/generate", b'{"prompt": "x"}', timeout=10).read())
    assert own["request_id"].startswith(front.role()["lease"])
    for path in ("/live", "/ready"):
        assert request(front.url + path, None, {}).status == 200


def test_health_files_are_as_documented(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor")
    worker = cluster.add("node1", "decode")
    cluster.ready()
    health = worker.health()
    assert list(health) == ["unit", "pid", "beat_s", "roles", "sees", "bus"]
    assert worker.process is not None
    assert (health["unit"], health["pid"]) == ("decode-0", worker.process.pid)
    role = health["roles"]["decode"]
    assert len(role.pop("lease")) == 16
    assert role == {"port": True, "registered": True, "engine": "ready", "problem": None}
    assert front.health()["roles"]["processor"]["engine"] == "none"
    wait_for(lambda: worker.health()["bus"] == {"etcd": "up", "nats": "up"}, "the bus is up")
    before = worker.health()["beat_s"]
    wait_for(lambda: worker.health()["beat_s"] > before + 1.0, "it beats without a change")
    assert worker.end() == 0
    ended = worker.health()["roles"]["decode"]
    assert (ended["port"], ended["registered"]) == (False, False)
    assert list(worker.folder.glob(".health*")) == []


def test_interrupting_is_draining_too(cluster: Cluster):
    front = cluster.add("node1", "frontend", "processor", "decode")
    cluster.ready()
    assert front.end(signal.SIGINT) == 0

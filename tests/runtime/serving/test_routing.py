"""The router over real processes with mock engines: who gets what, who hears of it, and what it does on bad days."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from dyno_runtime.settings import Routing
from tests.runtime.cluster import Cluster, Unit
from tests.runtime.serving.client import complete, post
from tests.runtime.serving.routes import ask, cached, delete, put, route, tokens, worker
from tests.servers import wait_for

pytestmark = pytest.mark.servers

A, B = "node1/decode-0", "node2/decode-1"


def brought_up(mocks: Cluster, routers: int = 1, **more: Any) -> list[Unit]:
    """Fused frontends, and two workers."""
    fronts = [mocks.add("node1", "frontend", "processor", "router") for _ in range(routers)]
    # Places sort in the order in which they were added.
    mocks.add("node1", "decode", **more)
    mocks.add("node2", "decode", **more)
    mocks.ready()
    for front in fronts:
        wait_for(partial(_sees_two, front), "the router sees two workers")
    return fronts


def _sees_two(front: Unit) -> bool:
    return len(route(front, [1])["workers"]) == 2


def _knows(front: Unit, prompt: list[int]) -> bool:
    return bool(route(front, prompt)["matched_tokens"] == len(prompt) - 1)


def test_prompts_that_begin_alike_stay_together_and_the_hit_rate_rises(mocks: Cluster):
    (front,) = brought_up(mocks)
    places: dict[int, set[str]] = {}
    hits = []
    for turn in range(4):
        hit = asked = 0
        for group in range(6):
            prompt = tokens(
                *(group * 100 + block for block in range(12)), *(9000 + turn * 10 + n for n in range(2))
            )
            said = ask(front, prompt)
            places.setdefault(group, set()).add(said.headers["x-dyno-worker"])
            hit, asked = hit + cached(said), asked + len(prompt)
        hits.append(hit / asked)
    assert all(len(used) == 1 for used in places.values()), places
    assert len({place for used in places.values() for place in used}) == 2
    assert hits[0] == 0
    assert all(later > 0.8 for later in hits[1:]), hits


def test_debug_route_says_where_and_why_and_runs_nothing(mocks: Cluster):
    (front,) = brought_up(mocks)
    prompt = tokens("A", "B", "C", "D")
    ask(front, prompt, worker=B)
    wait_for(lambda: route(front, prompt)["matched_tokens"] == 64, "the router hears of the blocks")
    told = [route(front, prompt) for _ in range(3)]
    assert told[0] == told[1] == told[2]
    one = told[0]
    assert (one["model"], one["policy"], one["worker"]) == ("mock-model", "kv", B)
    assert one["why"] == "costs 0.000 s, the least"
    assert (one["tokens"], one["blocks"], one["block_size"], one["in_flight"]) == (65, 4, 16, 0)
    assert worker(one, A)["score"] > worker(one, B)["score"] > 0
    assert (worker(one, A)["matched_tokens"], worker(one, B)["matched_tokens"]) == (0, 64)
    assert worker(one, B)["held_blocks"] >= 4
    assert ask(front, prompt).headers["x-dyno-worker"] == B
    text = route(front, "Tell me a joke")
    assert (text["tokens"], text["matched_tokens"]) == (14, 0)


def test_debug_route_refuses_in_the_shape_of_openai(mocks: Cluster):
    (front,) = brought_up(mocks)
    no_model = post(front.url, "/debug/route", {"model": "none", "prompt": "x"})
    assert (no_model.status, no_model.json["error"]["code"]) == (404, "model_not_found")
    two = post(front.url, "/debug/route", {"model": "mock-model", "prompt": ["x", "y"]})
    assert two.status == 400
    assert two.json["error"]["message"] == "'prompt' has 2 prompts; ask for one at a time."
    assert post(front.url, "/debug/route", b"{").status == 400


def test_the_decisions_of_the_reference(mocks: Cluster):
    """[A,B] and [A,C,D] are at a, [A,C,E] at b: [A,C,D,F] goes to a, and [A,C,G] to the smaller tree, b."""
    (front,) = brought_up(mocks)
    ask(front, tokens("A", "B"), worker=A)
    ask(front, tokens("A", "C", "D"), worker=A)
    ask(front, tokens("A", "C", "E"), worker=B)
    longest, tie = tokens("A", "C", "D", "F"), tokens("A", "C", "G")

    def heard() -> bool:
        one = route(front, longest)
        return (worker(one, A)["matched_tokens"], worker(one, B)["matched_tokens"]) == (48, 32)

    wait_for(heard, "the router hears of all blocks")
    assert route(front, longest)["worker"] == A
    assert route(front, tie)["worker"] == B


def test_a_dead_worker_is_forgotten_at_once(mocks: Cluster):
    (front,) = brought_up(mocks)
    prompt = tokens(*range(20))
    ask(front, prompt, worker=A)
    wait_for(lambda: route(front, prompt)["worker"] == A, "the router hears of the blocks")
    mocks.units[1].end(signal.SIGKILL)
    # Its lease lives for seconds yet.
    wait_for(lambda: len(route(front, prompt)["workers"]) == 1, "the dead worker is not there", 3.0)
    assert front.sees(decode=2)
    one = route(front, prompt)
    assert (one["worker"], one["matched_tokens"]) == (B, 0)
    said = ask(front, prompt)
    assert (said.headers["x-dyno-worker"], cached(said)) == (B, 0)


def test_events_that_the_engine_loses_are_found_out_and_told_again(mocks: Cluster):
    (front,) = brought_up(mocks, args={"faults": {"drop_kv_every": 3}})
    prompts = [tokens(*(1000 * number + block for block in range(6))) for number in range(1, 13)]
    for prompt in prompts:
        ask(front, prompt, worker=A)

    def all_known() -> bool:
        # One more event shows that the one before it was lost.
        ask(front, tokens(route(front, [1])["known_blocks"] + 20_000), worker=A)
        return all(worker(route(front, prompt), A)["matched_tokens"] == 96 for prompt in prompts)

    wait_for(all_known, "the router knows every block")
    assert "KV events;" in mocks.units[1].log


def test_routers_side_by_side_route_alike(mocks: Cluster):
    one, two = brought_up(mocks, routers=2)
    prompts = [tokens(*(1000 * number + block for block in range(8))) for number in range(1, 9)]
    first = [ask(one, prompt).headers["x-dyno-worker"] for prompt in prompts]
    assert set(first) == {A, B}

    def alike() -> bool:
        told = [(route(one, prompt), route(two, prompt)) for prompt in prompts]
        return all(
            (a["worker"], a["matched_tokens"]) == (b["worker"], b["matched_tokens"]) == (place, 128)
            for (a, b), place in zip(told, first, strict=True)
        )

    wait_for(alike, "both routers say the same")
    again = [ask(two, prompt) for prompt in prompts]
    assert [said.headers["x-dyno-worker"] for said in again] == first
    assert all(cached(said) == 128 for said in again)


def test_a_processor_apart_asks_the_router_apart_and_counts_there(mocks: Cluster):
    front = mocks.add("node1", "frontend")
    mocks.add("node1", "processor")
    mocks.add("node1", "router")
    mocks.add("node1", "decode")
    mocks.add("node2", "decode")
    mocks.ready()
    prompt = tokens(*range(9))
    place = ask(front, prompt).headers["x-dyno-worker"]
    for _ in range(4):
        said = ask(front, prompt)
        assert (said.headers["x-dyno-worker"], cached(said)) == (place, 144)
    wait_for(lambda: route(front, prompt)["in_flight"] == 0, "nothing is in flight")


def test_requests_that_come_together_go_where_the_first_of_them_went(mocks: Cluster):
    mocks.routing = Routing("prefix")
    (front,) = brought_up(mocks, args={"speedup": 1, "prefill_tokens_per_s": 1500})
    prompt = tokens(*range(30))
    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(lambda _: ask(front, prompt), range(6)))
    assert len({one.headers["x-dyno-worker"] for one in said}) == 1


def test_the_policy_is_switched_while_it_runs_and_a_bad_value_is_refused(mocks: Cluster):
    (front,) = brought_up(mocks)
    key = "config/routing/mock-model"
    put(mocks, key, {"policy": "round_robin"})
    wait_for(lambda: route(front, [1])["policy"] == "round_robin", "the policy is another")
    used = [ask(front, tokens(5, 6, 7)).headers["x-dyno-worker"] for _ in range(4)]
    assert used[0] != used[1]
    assert used[:2] == used[2:]
    put(mocks, key, {"policy": "rond_robin"})
    sentence = (
        f"/{mocks.name}/{key} is refused, and what was there before stays: "
        "Invalid enum value 'rond_robin' - at `$.policy`"
    )
    wait_for(lambda: front.role()["problem"] == sentence, "the health file says so")
    assert sentence in front.log
    assert route(front, [1])["policy"] == "round_robin"
    delete(mocks, key)
    wait_for(lambda: route(front, [1])["policy"] == "kv", "the operator's policy is back")
    assert front.role()["problem"] is None


def test_where_all_workers_are_full_the_client_is_told_to_come_back(mocks: Cluster):
    """The reference's overload case: a threshold on the KV blocks in use, and one request too many."""
    mocks.routing = Routing("kv", max_usage=0.2)
    (front,) = brought_up(mocks, args={"kv_blocks": 64, "speedup": 1, "step_base_s": 0.05})
    with ThreadPoolExecutor(12) as pool:
        flying = [
            pool.submit(complete, front.url, tokens(*range(n, n + 5)), max_tokens=40, ignore_eos=True)
            for n in range(0, 120, 10)
        ]
        said = [one.result() for one in flying]
    refused = [one for one in said if one.status == 429]
    assert refused
    assert len(refused) < len(said)
    assert refused[0].json["error"]["message"] == "all workers that serve mock-model are full"
    assert refused[0].headers["retry-after"]
    wait_for(lambda: route(front, [1])["in_flight"] == 0, "nothing is in flight")
    put(mocks, "config/routing/mock-model", {"max_usage": None})
    wait_for(lambda: ask(front, tokens(1, 2)).status == 200, "without a limit it is taken")


def test_routing_is_as_good_without_nats(own_nats, mocks: Cluster):
    mocks.nats_url = own_nats.url
    (front,) = brought_up(mocks)
    own_nats.kill()
    for number in range(4):
        prompt = tokens(*range(100 * number, 100 * number + 10))
        place = ask(front, prompt).headers["x-dyno-worker"]
        wait_for(partial(_knows, front, prompt), "it is heard of")
        said = ask(front, prompt)
        assert (said.headers["x-dyno-worker"], cached(said)) == (place, 160)


@pytest.mark.parametrize("policy", ["kv", "round_robin", "random"])
def test_many_at_once_through_two_routers_are_all_answered(mocks: Cluster, policy: Any):
    """The reference's first case: 100 requests at once, alternating between two routers, two workers."""
    mocks.routing = Routing(policy)
    one, two = brought_up(mocks, routers=2)
    with ThreadPoolExecutor(50) as pool:
        said = list(pool.map(lambda n: ask((one, two)[n % 2], tokens(n % 10, n)), range(100)))
    assert {answer.status for answer in said} == {200}
    assert {answer.headers["x-dyno-worker"] for answer in said} == {A, B}
    for front in (one, two):
        wait_for(partial(_idle, front), "nothing is in flight")


def _idle(front: Unit) -> bool:
    told = route(front, [1])
    busy = [one for one in told["workers"] if one["running"] or one["waiting"] or one["queued_tokens"]]
    return told["in_flight"] == 0 and not busy


def test_without_a_router_workers_take_turns_and_debug_route_says_so(mocks: Cluster):
    front = mocks.add("node1", "frontend")
    mocks.add("node1", "decode")
    mocks.add("node2", "decode")
    mocks.ready()
    used = [ask(front, tokens(1, 2, 3)).headers["x-dyno-worker"] for _ in range(4)]
    assert used[0] != used[1]
    assert used[:2] == used[2:]
    assert route(front, [1]) == {
        "model": "mock-model",
        "worker": None,
        "why": "there is no router: workers take turns",
        "workers": [],
    }


def test_a_worker_with_other_blocks_gets_nothing_until_it_is_alone(mocks: Cluster):
    front = mocks.add("node1", "frontend", "processor", "router")
    first = mocks.add("node1", "decode")
    mocks.ready()
    mocks.engine = replace(mocks.engine, block_size=32)
    mocks.add("node2", "decode")
    wait_for(lambda: front.sees(decode=2), "both are registered")
    lease = mocks.units[2].role()["lease"]
    sentence = (
        f"node2/decode-1: worker {lease} has blocks of 32 tokens, the others of its model have 16: "
        "it gets no requests; give all workers of a model the same engine.block_size"
    )
    wait_for(lambda: front.health()["roles"]["router"]["problem"] == sentence, "the router says so")
    assert {ask(front, tokens(n)).headers["x-dyno-worker"] for n in range(6)} == {A}
    assert first.end() == 0
    wait_for(lambda: route(front, [1]).get("block_size") == 32, "the other one is alone, and taken")
    assert ask(front, tokens(1)).headers["x-dyno-worker"] == B
    assert front.health()["roles"]["router"]["problem"] is None

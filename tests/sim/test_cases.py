"""Routing seen as a whole: the reference's own end-to-end cases, and which policy is better."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from benchmarks.routing_study import POLICIES, name_of, study, trace
from benchmarks.trace import CONVERSATION, Row
from dyno_runtime.core.chooser import Limits
from dyno_runtime.core.policies import PolicyName
from tests.sim.cluster import Cluster, Network
from tests.sim.scenario import check
from tests.sim.worker import Machine

SMALL = Machine(prefill_tokens_per_s=20_000.0, blocks=400, block_size=16, step_tokens=512)


def burst(count: int, output: int = 20, own_blocks: int = 2, first: int = 0) -> list[Row]:
    """Requests that come at once: two common blocks, then blocks of their own."""
    own = (range(1000 * (first + n), 1000 * (first + n) + own_blocks) for n in range(1, count + 1))
    return [Row(0, 16 * (2 + own_blocks) + 5, output, (1, 2, *numbers)) for numbers in own]


def settle(cluster: Cluster) -> None:
    cluster.run(cluster.clock.now_s + 600.0)
    cluster.clock.run(cluster.clock.now_s + 70.0)
    check(cluster)


# Not with `prefix`: half of these prompts is common, so by its rule one worker takes them all.
@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "prefix"])
@pytest.mark.parametrize("routers", [1, 2])
def test_a_hundred_at_once_are_all_answered_by_both_workers(policy: PolicyName, routers: int):
    cluster = Cluster(1, policy, workers=2, routers=routers, machine=SMALL)
    cluster.clock.run(1.0)
    cluster.arrive(burst(100), name_of)
    settle(cluster)
    served = Counter(passage.worker for passage in cluster.passages)
    assert min(served["w00"], served["w01"]) >= 30


@pytest.mark.parametrize("policy", ["kv", "round_robin", "random"])
def test_a_soak_of_a_thousand(policy: PolicyName):
    cluster = Cluster(1, policy, workers=2, machine=SMALL)
    for number in range(8):
        cluster.arrive(burst(128, first=number * 128), name_of)
        cluster.run(cluster.clock.now_s + 600.0)
    settle(cluster)
    assert len(cluster.passages) == 1024


def test_a_router_that_comes_late_and_one_that_was_cut_off_know_what_the_others_know():
    cluster = Cluster(1, "kv", workers=2, routers=3, machine=SMALL)
    late, cut_off = 1, 2
    cluster.cut_off |= {(late, "w00"), (late, "w01")}
    cluster.arrive(burst(25), name_of)
    cluster.run(60.0)
    cluster.cut_off |= {(cut_off, "w00"), (cut_off, "w01")}
    cluster.arrive(burst(10, first=500), name_of)
    cluster.run(120.0)
    held = [[router.index.blocks_of(name) for name in ("w00", "w01")] for router in cluster.routers]
    assert held[0] not in held[1:], "the cuts did nothing"
    cluster.cut_off.clear()
    cluster.arrive(burst(25, first=600), name_of)
    settle(cluster)
    held = [[router.index.blocks_of(name) for name in ("w00", "w01")] for router in cluster.routers]
    assert held[0] == held[1] == held[2]


def test_what_a_dying_worker_had_is_done_by_others():
    cluster = Cluster(1, "kv", workers=3, routers=2, machine=SMALL, network=Network(lease_s=10.0))
    cluster.clock.run(1.0)
    cluster.arrive(burst(50, output=200), name_of)
    cluster.clock.run(1.2)
    cluster.die("w01")
    settle(cluster)
    moved = [passage for passage in cluster.passages if passage.attempts > 1]
    assert moved
    assert {passage.worker for passage in cluster.passages} == {"w00", "w02"}


def test_no_more_are_sent_than_may_wait():
    cluster = Cluster(1, "kv", workers=2, machine=replace(SMALL, max_running=1), limits=Limits(max_waiting=3))
    cluster.clock.run(1.0)
    cluster.arrive(burst(50), name_of)
    most = 0
    while cluster.open:
        cluster.clock.run(cluster.clock.now_s + 0.01)
        most = max(most, *(worker.report().waiting for worker in cluster.workers.values()))
    assert 2 <= most <= 4
    settle(cluster)


def test_kv_is_the_fastest_and_finds_nearly_as_much_as_the_best():
    rows = trace(CONVERSATION, 3000, 1)
    figures = {policy: study(policy, [rows]) for policy in POLICIES}
    means = {policy: one.mean_s for policy, one in figures.items()}
    hits = {policy: one.hit_rate for policy, one in figures.items()}
    assert min(means, key=means.__getitem__) == "kv", means
    assert hits["kv"] >= 0.9 * max(hits.values()), hits


def test_several_routers_route_nearly_as_well_as_one():
    rows = trace(CONVERSATION, 3000, 1)
    one, four = study("kv", [rows]), study("kv", [rows], routers=4)
    assert four.mean_s < 1.15 * one.mean_s
    assert four.hit_rate > 0.95 * one.hit_rate

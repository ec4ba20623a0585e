"""A router's mind: who may take a request, what routing leaves behind, and what it tells when asked."""

from __future__ import annotations

from random import Random

import pytest

from dyno_runtime.core.chooser import (
    EXPECT_PER_TOKEN_S,
    EXPECT_S,
    BlockSizeDiffers,
    Chooser,
    Limits,
    Refusal,
    Standing,
    Worker,
)
from dyno_runtime.core.policies import Choice, PolicyName, Request
from dyno_runtime.wire.kv import KvAsk, KvBatch, KvSnapshot, LoadReport

M = "llama"


def worker(lease: str, *models: str, block_size: int = 1, draining: bool = False) -> Worker:
    return Worker(lease, frozenset(models or [M]), block_size, draining)


def chooser(*leases: str, policy: PolicyName = "kv", limits: Limits | None = None) -> Chooser:
    made = Chooser(1, policy, Random(3), limits)
    for lease in leases:
        made.seen(worker(lease), 0.0)
    return made


def request(blocks: list[int], name: str = "r", model: str = M, excluded: tuple[str, ...] = ()) -> Request:
    return Request(name, model, len(blocks), blocks, frozenset(excluded))


def place(mind: Chooser, lease: str, blocks: list[int], now_s: float = 0.0) -> None:
    """Route a request where the test wants it, and let it end at once."""
    asked = request(blocks, f"placed at {lease} {blocks}")
    mind.routed(asked, Choice(lease, "the test says so"), now_s)
    mind.begun(asked.id, now_s)
    mind.ended(asked.id, now_s)


def chosen(mind: Chooser, asked: Request) -> str:
    choice = mind.choose(asked)
    assert isinstance(choice, Choice), choice
    return choice.worker


# ---- the reference's own cases ---------------------------------------------------------------------------

A, B, C, D, E, F, G = range(1, 8)


@pytest.mark.parametrize("policy", ["kv", "kv_classic", "prefix"])
def test_the_longer_match_wins_and_the_smaller_tree_where_matches_are_equal(policy: PolicyName):
    mind = chooser("a", "b", policy=policy)
    place(mind, "a", [A, B])
    place(mind, "a", [A, C, D])
    place(mind, "b", [A, C, E])
    assert chosen(mind, request([A, C, D, F])) == "a"
    assert chosen(mind, request([A, C, G])) == "b"


def test_full_workers_refuse_and_without_a_threshold_they_do_not():
    # Blocks of 4, 64 of them, a threshold of 0.2: here as shares of the KV blocks.
    for limits, refused in ((Limits(max_usage=0.2), True), (Limits(), False)):
        mind = chooser("a", "b", limits=limits)
        for lease in ("a", "b"):
            mind.report(lease, LoadReport(25, 0, 0, 60, 64), 0.0)
        choice = mind.choose(request([1, 2]))
        assert isinstance(choice, Refusal) == refused
        if refused:
            assert choice == Refusal("overloaded", "all workers that serve llama are full")


# ---- who may -------------------------------------------------------------------------------------------


def test_nobody_is_there():
    assert chooser().choose(request([1])) == Refusal(
        "no_worker", "no worker that serves llama may take the request"
    )


def test_models_are_matched_by_their_exact_name():
    mind = chooser("a")
    mind.seen(worker("b", "llama2", M), 0.0)
    assert {chosen(mind, request([number], model="llama2")) for number in range(20)} == {"b"}
    assert isinstance(mind.choose(request([1], model="llam")), Refusal)
    assert isinstance(mind.choose(request([1], model="llama23")), Refusal)


def test_the_excluded_and_the_draining_are_left_out():
    mind = chooser("a", "b", "c")
    mind.seen(worker("b", draining=True), 1.0)
    assert {chosen(mind, request([number], excluded=("a",))) for number in range(20)} == {"c"}
    assert isinstance(mind.choose(request([1], excluded=("a", "c"))), Refusal)


def test_a_full_worker_is_left_out_while_another_is_not():
    mind = chooser("a", "b", limits=Limits(max_waiting=2))
    mind.report("a", LoadReport(0, 2, 0, 0, 100), 0.0)
    mind.report("b", LoadReport(50, 1, 9999, 90, 100), 0.0)
    assert chosen(mind, request([1])) == "b"


def test_a_gone_worker_is_never_chosen_and_what_it_says_later_is_ignored():
    mind = chooser("a", "b")
    place(mind, "a", [1, 2, 3])
    mind.gone("a")
    mind.gone("a")
    mind.report("a", LoadReport(0, 0, 0, 0, 1), 1.0)
    assert mind.batch("a", KvBatch(1, (1, 2, 3)), 1.0) is None
    mind.answer("a", KvSnapshot(1, (1, 2, 3)))
    mind.routed(request([7]), Choice("a", "chosen just before"), 1.0)
    assert {chosen(mind, request([1, 2, number])) for number in range(20)} == {"b"}
    assert len(mind.loads) == 0


def test_another_block_size_is_refused_loudly():
    mind = chooser("a")
    with pytest.raises(BlockSizeDiffers) as refusal:
        mind.seen(worker("b", block_size=64), 0.0)
    assert str(refusal.value) == (
        "worker b has blocks of 64 tokens, the others of its model have 1: it gets no requests; "
        "give all workers of a model the same engine.block_size"
    )
    assert {chosen(mind, request([number])) for number in range(20)} == {"a"}


# ---- what routing leaves behind --------------------------------------------------------------------------


def test_a_burst_of_equal_requests_spreads():
    mind = chooser(*"abcd")
    taken = []
    for number in range(40):
        asked = request([number * 10 + place for place in range(5)], f"r{number}")
        choice = mind.choose(asked)
        assert isinstance(choice, Choice)
        mind.routed(asked, choice, 0.0)
        taken.append(choice.worker)
    assert {lease: taken.count(lease) for lease in "abcd"} == {"a": 10, "b": 10, "c": 10, "d": 10}


def test_routers_that_start_together_do_not_start_with_the_same_worker():
    firsts = {chosen_first(seed) for seed in range(30)}
    assert firsts == set("abcd")


def chosen_first(seed: int) -> str:
    mind = Chooser(1, "round_robin", Random(seed))
    for lease in "abcd":
        mind.seen(worker(lease), 0.0)
    return chosen(mind, request([1]))


def test_the_next_turn_of_a_conversation_follows_before_any_event():
    mind = chooser(*"abcd")
    first = chosen(mind, request(list(range(50))))
    mind.routed(request(list(range(50))), Choice(first, ""), 0.0)
    mind.ended("r", 0.1)
    assert chosen(mind, request(list(range(60)))) == first


def test_a_routed_prompt_is_forgotten_if_no_event_confirms_it():
    mind = chooser("a", "b")
    place(mind, "a", [1, 2, 3], now_s=10.0)
    until_s = 10.0 + EXPECT_S + 3 * EXPECT_PER_TOKEN_S
    mind.tick(until_s - 0.001)
    assert mind.index.match([1, 2, 3]) == {"a": 3}
    mind.tick(until_s)
    assert mind.index.match([1, 2, 3]) == {}


def test_only_what_is_new_is_counted_as_work():
    mind = chooser("a")
    mind.batch("a", KvBatch(1, (1, 2)), 0.0)
    choice = mind.choose(request([1, 2, 3]))
    assert isinstance(choice, Choice)
    assert choice.matched == 2
    mind.routed(request([1, 2, 3]), choice, 0.0)
    load = mind.loads.workers["a"]
    assert (load.waiting, load.queued_tokens, load.active_blocks) == (1, 1, 3)


def test_similar_learns_what_is_routed():
    mind = chooser("a", "b", policy="similar")
    asked = Request("r", M, 1, prompt="Tell me a joke")
    choice = mind.choose(asked)
    assert choice == Choice("a", "its first prompt", teaches=True)
    assert mind.memory == {}
    assert isinstance(choice, Choice)
    mind.routed(asked, choice, 0.0)
    assert mind.memory == {"a": "Tell me a joke"}
    mind.gone("a")
    assert mind.memory == {}


def test_the_policy_can_be_changed_at_any_time():
    mind = chooser("a", "b", policy="prefix")
    place(mind, "a", [1, 2])
    mind.report("a", LoadReport(9, 9, 9000, 0, 10), 1.0)
    assert chosen(mind, request([1, 2, 3])) == "a"
    mind.policy = "kv"
    assert chosen(mind, request([1, 2, 3])) == "b"


# ---- events ----------------------------------------------------------------------------------------------


def test_a_new_worker_is_asked_what_it_holds():
    mind = Chooser(1, "kv", Random(1))
    assert mind.seen(worker("a"), 0.0) == KvAsk(0)
    assert mind.seen(worker("a"), 1.0) is None
    mind.answer("a", KvSnapshot(41, (1, 2)))
    assert mind.batch("a", KvBatch(42, (3,)), 2.0) is None
    assert mind.index.match([1, 2, 3]) == {"a": 3}
    assert mind.tick(1000.0) == []


def test_a_gap_is_asked_about_and_filled():
    mind = chooser("a")
    mind.answer("a", [])
    assert mind.batch("a", KvBatch(1, (1,)), 0.0) is None
    assert mind.batch("a", KvBatch(3, (3,)), 0.0) == KvAsk(1)
    assert mind.index.match([1, 2, 3]) == {"a": 1}
    mind.answer("a", [KvBatch(2, (2,)), KvBatch(3, (3,))])
    assert mind.index.match([1, 2, 3]) == {"a": 3}


def test_a_snapshot_replaces_what_was_known():
    mind = chooser("a")
    mind.answer("a", KvSnapshot(1, (1, 2)))
    mind.answer("a", KvSnapshot(5, (2, 3)))
    assert mind.index.blocks_of("a") == {2, 3}


def test_a_batch_is_cleared_then_removed_then_stored():
    mind = chooser("a")
    mind.answer("a", KvSnapshot(1, (1, 2)))
    mind.batch("a", KvBatch(2, stored=(3, 4), removed=(4,), cleared=True), 0.0)
    assert mind.index.blocks_of("a") == {3, 4}


def test_a_tick_asks_again():
    mind = chooser("a", "b")
    mind.answer("b", [])
    assert mind.tick(0.5) == []
    assert mind.tick(1.0) == [("a", KvAsk(0))]


# ---- explaining ------------------------------------------------------------------------------------------


def test_explaining_tells_how_everyone_stands_and_leaves_no_trace():
    mind = chooser("a", "b", "c", "d", "e", policy="kv_classic", limits=Limits(max_waiting=5))
    mind.seen(worker("c", draining=True), 0.0)
    mind.seen(worker("d", "other"), 0.0)
    place(mind, "a", [1, 2, 3, 4])
    mind.report("a", LoadReport(2, 1, 30, 25, 100), 0.5)
    mind.report("e", LoadReport(0, 5, 30, 10, 100), 0.5)
    before = (mind._turn, mind._rng.getstate(), len(mind.loads), len(mind.index), dict(mind.index.held))
    choice, standings = mind.explain(request([1, 2]))
    assert choice == Choice("a", "score {:.3f}, the highest", 2, [0.75, 0.0], 0.75)
    assert choice.why == "score 0.750, the highest"
    assert standings == [
        Standing("a", 2, 4, 2, 1, 30, 0.25, score=0.75),
        Standing("b", 0, 0, 0, 0, 0, 0.0, score=0.0),
        Standing("c", 0, 0, 0, 0, 0, 0.0, out="draining"),
        Standing("d", 0, 0, 0, 0, 0, 0.0, out="does not serve llama"),
        Standing("e", 0, 0, 0, 5, 30, 0.1, out="full: 5 requests wait"),
    ]
    assert before == (
        mind._turn,
        mind._rng.getstate(),
        len(mind.loads),
        len(mind.index),
        dict(mind.index.held),
    )


def test_explaining_a_refusal():
    mind = chooser("a", limits=Limits(max_usage=0.5))
    mind.report("a", LoadReport(2, 1, 30, 60, 100), 0.5)
    choice, standings = mind.explain(request([1]))
    assert choice == Refusal("overloaded", "all workers that serve llama are full")
    assert [one.out for one in standings] == ["full: 60% of its KV blocks are in use"]
    _, standings = mind.explain(request([1], excluded=("a",)))
    assert [one.out for one in standings] == ["excluded by the caller"]


def test_a_random_choice_is_explained_as_it_will_be_made():
    mind = chooser(*"abcd", policy="random")
    for number in range(20):
        explained, _ = mind.explain(request([number]))
        assert mind.choose(request([number])) == explained

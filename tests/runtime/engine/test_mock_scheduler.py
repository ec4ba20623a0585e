"""The mock engine's scheduler, step by step: bounds, leaks, order, preemption, and that batching changes no token."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno_runtime.core.blocks import block_hashes
from dyno_runtime.core.kv_ledger import Ledger
from dyno_runtime.core.prefix_index import PrefixIndex
from dyno_runtime.engine.base import BadJob, EngineError, KvRemoved, KvStored, Overloaded, Stats
from dyno_runtime.engine.mock.scheduler import Scheduler, Step
from tests.runtime.engine.virtual import answers, job, make_scheduler, replayed


def finish(scheduler: Scheduler) -> list[list[Any]]:
    """Steps until nothing is left to do."""
    steps = []
    while (step := scheduler.decide()) is not None:
        steps.append(scheduler.absorb(step))
    return steps


def alone(asked: Any, **args: Any) -> list[int]:
    """What a job is answered by an engine that has nothing else to do."""
    scheduler = make_scheduler(**args)
    scheduler.submit(asked)
    return answers(finish(scheduler)).get(asked.id, [])


# ---- one job -------------------------------------------------------------------------------------------


def test_prefill_goes_in_chunks_then_one_token_a_step():
    scheduler = make_scheduler(max_num_batched_tokens=8, max_num_seqs=4)
    scheduler.submit(job("a", "x" * 18, 3))
    shapes = []
    while (step := scheduler.decide()) is not None:
        outputs = scheduler.absorb(step)
        shapes.append((step.prefill_tokens, step.decoding, [output.finish for output in outputs]))
    assert shapes == [(8, 0, []), (8, 0, []), (2, 0, [None]), (0, 1, [None]), (0, 1, ["length"])]


def test_a_step_takes_its_base_its_requests_their_context_and_its_prefill():
    scheduler = make_scheduler(
        step_base_s=1.0, step_seq_s=0.1, step_context_token_s=0.01, prefill_tokens_per_s=5.0, speedup=7
    )
    scheduler.submit(job("a", "x" * 10, 9))
    first = scheduler.decide()
    assert first is not None
    assert first.duration_s == pytest.approx(1.0 + 10 / 5)
    scheduler.absorb(first)
    scheduler.submit(job("b", "y" * 20, 9))
    second = scheduler.decide()
    assert second is not None
    # `a` has its prompt and one token behind it, and waits for the prefill of `b` in the same step.
    assert second.duration_s == pytest.approx(1.0 + 0.1 + 11 * 0.01 + 20 / 5)
    scheduler.absorb(second)
    third = scheduler.decide()
    assert third is not None
    assert third.duration_s == pytest.approx(1.0 + 2 * 0.1 + (12 + 21) * 0.01)


def test_cached_tokens_come_with_the_first_output_and_one_token_is_always_computed():
    scheduler = make_scheduler(block_size=4)
    for name in ("a", "b"):
        scheduler.submit(job(name, "0123456789ab", 2))
        outputs = [output for step in finish(scheduler) for output in step]
        assert [output.cached_tokens for output in outputs] == [0 if name == "a" else 8, None]
        assert outputs[0].job.id == name


def test_an_answer_becomes_a_prefix_too():
    scheduler = make_scheduler(block_size=4)
    scheduler.submit(job("a", "0123456", 10))
    (made,) = answers(finish(scheduler)).values()
    again = job("b", "0123456", 1)
    again.tokens.extend(made)
    scheduler.submit(again)
    outputs = [output for step in finish(scheduler) for output in step]
    # 17 tokens; the KV of the last one told was never computed.
    assert outputs[0].cached_tokens == 16


def test_without_prefix_caching_nothing_is_found_or_told():
    scheduler = make_scheduler(enable_prefix_caching=False)
    for name in ("a", "b"):
        scheduler.submit(job(name, count=6))
        outputs = [output for step in finish(scheduler) for output in step]
        assert outputs[0].cached_tokens == 0
    assert scheduler.cache.flush() == []
    assert scheduler.stats() == Stats(0, total_blocks=8192)


def test_hashes_of_the_caller_are_taken_and_too_few_are_not():
    tokens = list(b"0123456789ab")
    for blocks in (block_hashes(tokens, 4, 7), block_hashes(tokens, 4, 7)[:1], None):
        scheduler = make_scheduler(block_size=4)
        scheduler.submit(job("a", "0123456789ab", 1, salt=7, blocks=blocks))
        finish(scheduler)
        assert scheduler.cache.flush() == [KvStored(block_hashes(tokens, 4, 7), 7, tokens)]


# ---- bounds --------------------------------------------------------------------------------------------


def test_what_it_does_not_take():
    scheduler = make_scheduler(block_size=4, max_model_len=16, max_waiting=1)
    with pytest.raises(BadJob, match=r"^the prompt is empty$"):
        scheduler.submit(job("a", ""))
    with pytest.raises(BadJob, match=r"^the prompt has 16 tokens; the engine takes 16 with the answer$"):
        scheduler.submit(job("a", "x" * 16))
    bad = job("a", "x")
    bad.tokens[0] = -1
    with pytest.raises(
        BadJob, match=r"^the prompt cannot be hashed: a token id is negative or above 4294967295$"
    ):
        scheduler.submit(bad)
    scheduler.submit(job("a", "x" * 15))
    with pytest.raises(Overloaded, match=r"^1 requests are waiting in the engine$"):
        scheduler.submit(job("b", "x"))
    step = scheduler.decide()
    assert step is not None
    with pytest.raises(EngineError, match=r"^job a is in the engine already$"):
        scheduler.submit(job("a", "x"))
    (output,) = scheduler.absorb(step)
    assert (len(output.tokens), output.finish) == (1, "length"), "there is room for one more token"


def test_a_small_cache_bounds_the_length_too():
    scheduler = make_scheduler(block_size=4, kv_blocks=3)
    with pytest.raises(BadJob, match=r"^the prompt has 12 tokens; the engine takes 12 with the answer$"):
        scheduler.submit(job("a", "x" * 12))
    scheduler.submit(job("a", "x" * 5, 50))
    outputs = [output for step in finish(scheduler) for output in step]
    assert (len(outputs), outputs[-1].finish) == (7, "length")


def test_who_waits_is_taken_in_order_and_the_batch_has_a_bound():
    scheduler = make_scheduler(max_num_seqs=2, max_num_batched_tokens=64)
    for name in "abc":
        scheduler.submit(job(name, "x" * 4 + name, 3))
    step = scheduler.decide()
    assert step is not None
    assert [sequence.job.id for sequence, _ in step.chunks] == ["a", "b"]
    assert scheduler.stats().waiting == 3
    assert scheduler.stats().queued_tokens == 15
    scheduler.absorb(step)
    assert (scheduler.stats().running, scheduler.stats().waiting) == (2, 1)
    assert {name: len(tokens) for name, tokens in answers(finish(scheduler)).items()} == {
        "a": 2,
        "b": 2,
        "c": 3,
    }


def test_decode_takes_the_blocks_of_the_youngest_which_is_computed_again():
    asked = [job("a", "aaaa", 10), job("b", "bbbb", 10)]
    scheduler = make_scheduler(block_size=4, kv_blocks=5)
    for one in asked:
        scheduler.submit(one)
    steps = finish(scheduler)
    ends = [output.job.id for step in steps for output in step if output.finish]
    assert ends == ["a", "b"]
    assert len(steps) > 11, "they did not fit together"
    assert answers(steps) == {one.id: alone(one, block_size=4) for one in asked}
    assert scheduler.stats().active_blocks == 0


def test_abort_frees_at_once_whatever_the_job_does():
    scheduler = make_scheduler(max_num_batched_tokens=8, max_num_seqs=2)
    for name in "abcd":
        scheduler.submit(job(name, name * 12, 20))
    for _ in range(4):
        step = scheduler.decide()
        assert step is not None
        scheduler.absorb(step)
    assert (scheduler.stats().running, scheduler.stats().waiting) == (2, 2)
    step = scheduler.decide()
    assert step is not None
    for name in "abcd":
        found = scheduler.find(name)
        assert found is not None
        scheduler.end(found)
    assert scheduler.stats().active_blocks == 0
    assert scheduler.absorb(step) == []
    assert scheduler.decide() is None
    assert (scheduler.stats().running, scheduler.stats().waiting, scheduler.stats().queued_tokens) == (
        0,
        0,
        0,
    )


# ---- blocks set aside ----------------------------------------------------------------------------------


def test_a_reservation_takes_room_or_says_that_there_is_none():
    scheduler = make_scheduler(block_size=4, kv_blocks=4)
    assert scheduler.reserve(job("a", "x" * 9)) is not None
    assert scheduler.reserve(job("b", "y" * 9)) is None
    assert scheduler.find("b") is None
    assert scheduler.stats().active_blocks == 3
    with pytest.raises(BadJob, match=r"^job a is not the one that blocks were set aside for$"):
        scheduler.submit(job("a", "z" * 9))
    scheduler.submit(job("a", "x" * 9))
    finish(scheduler)
    assert scheduler.stats().active_blocks == 0


def test_who_has_blocks_goes_before_who_waits_for_them():
    scheduler = make_scheduler(block_size=4, kv_blocks=4)
    scheduler.reserve(job("a", "x" * 9))
    scheduler.submit(job("b", "y" * 9))
    assert scheduler.decide() is None
    scheduler.submit(job("a", "x" * 9))
    ends = [output.job.id for step in finish(scheduler) for output in step if output.finish]
    assert ends == ["a", "b"]


def test_those_that_have_blocks_go_in_the_order_in_which_their_kv_came():
    scheduler = make_scheduler(max_num_seqs=1)
    for name in "ab":
        scheduler.reserve(job(name, name * 9))
    for name in "ba":
        scheduler.submit(job(name, name * 9))
    ends = [output.job.id for step in finish(scheduler) for output in step if output.finish]
    assert ends == ["b", "a"]


# ---- properties ----------------------------------------------------------------------------------------


def check_step(scheduler: Scheduler, step: Step, told: set[int]) -> set[int]:
    args = scheduler.args
    assert step.decoding + step.prefill_tokens <= args.max_num_batched_tokens
    assert step.decoding + len(step.chunks) <= args.max_num_seqs
    assert step.prefill_tokens == sum(tokens for _, tokens in step.chunks)
    assert all(tokens > 0 for _, tokens in step.chunks)
    stats = scheduler.stats()
    assert stats.active_blocks + stats.cached_blocks <= stats.total_blocks
    told = replayed(scheduler.cache.flush(), told)
    assert told == set(scheduler.cache.held())
    return told


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_nothing_leaks_and_no_bound_breaks_and_no_token_changes(seed: int):
    rng = random.Random(seed)
    args = {
        "block_size": rng.choice([1, 2, 4, 16]),
        "kv_blocks": rng.choice([16, 40, 500]),
        "max_num_seqs": rng.choice([1, 3, 8]),
        "max_num_batched_tokens": rng.choice([8, 30]),
    }
    scheduler = make_scheduler(max_model_len=60, **args)
    asked: dict[str, Any] = {}
    aborted: set[str] = set()
    steps: list[list[Any]] = []
    told: set[int] = set()
    for turn in range(60):
        what = rng.random()
        if what < 0.35 and turn < 45:
            text = "prefix"[: rng.randint(1, 6)] * rng.randint(1, 3)
            one = job(str(turn), text, rng.randint(0, 12), sampling={"seed": rng.randint(0, 3)})
            if len(one.tokens) < scheduler.most_tokens:
                asked[one.id] = one
                if rng.random() < 0.2:
                    scheduler.reserve(one)
                scheduler.submit(one)
        elif what < 0.45 and asked:
            name = rng.choice(list(asked))
            if (found := scheduler.find(name)) is not None:
                aborted.add(name)
                scheduler.end(found)
        elif (step := scheduler.decide()) is not None:
            told = check_step(scheduler, step, told)
            steps.append(scheduler.absorb(step))
    while (step := scheduler.decide()) is not None:
        told = check_step(scheduler, step, told)
        steps.append(scheduler.absorb(step))
    made = answers(steps)
    ends = [output.job.id for step in steps for output in step if output.finish]
    assert sorted(ends) == sorted(asked.keys() - aborted)
    for name, one in asked.items():
        expected = alone(one, max_model_len=60, **args)
        if name in aborted:
            assert made.get(name, []) == expected[: len(made.get(name, []))]
        else:
            assert made.get(name, []) == expected
    stats = scheduler.stats()
    assert (stats.running, stats.waiting, stats.queued_tokens, stats.active_blocks) == (0, 0, 0, 0)
    assert scheduler._context == 0
    assert replayed(scheduler.cache.flush(), told) == set(scheduler.cache.held())


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_what_a_router_hears_is_what_the_engine_holds(seed: int):
    rng = random.Random(seed)
    scheduler, ledger, index = make_scheduler(block_size=2, kv_blocks=20), Ledger(), PrefixIndex()
    index.add("w")
    prompts = [rng.choice("ab") * rng.randint(1, 20) for _ in range(30)]
    for number, prompt in enumerate(prompts):
        scheduler.submit(job(str(number), prompt, rng.randint(1, 8)))
        if rng.random() < 0.1:
            scheduler.cache.clear()
        while (step := scheduler.decide()) is not None:
            scheduler.absorb(step)
            hear(scheduler, ledger, index)
    assert ledger.held == set(scheduler.cache.held())
    assert index.held["w"] == len(ledger.held)
    for prompt in prompts:
        names = block_hashes(list(prompt.encode()), 2, 0)
        assert index.match(names).get("w", 0) == len(scheduler.cache.find(names))


def hear(scheduler: Scheduler, ledger: Ledger, index: PrefixIndex) -> None:
    """The way of KV events from an engine to a router."""
    for change in scheduler.cache.flush():
        if isinstance(change, KvStored):
            ledger.stored(change.hashes)
        elif isinstance(change, KvRemoved):
            ledger.removed(change.hashes)
        else:
            ledger.cleared()
    if (batch := ledger.flush()) is not None:
        if batch.cleared:
            index.clear("w")
        index.drop("w", batch.removed)
        index.store("w", batch.stored)

"""The mock engine on a real event loop, as roles use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dyno_runtime.core.blocks import block_hashes
from dyno_runtime.engine.base import EngineError, KvEvents, KvHolder, Output, Stats
from dyno_runtime.engine.choose import make_engine
from dyno_runtime.engine.mock.args import Faults
from dyno_runtime.engine.mock.engine import MockEngine
from dyno_runtime.settings import Engine
from tests.runtime.engine.virtual import answers, job


def make(**args: Any) -> MockEngine:
    engine = make_engine(Engine("mock", block_size=4, max_model_len=400, args=args), block_hashes)
    assert isinstance(engine, MockEngine)
    assert isinstance(engine, KvHolder)
    return engine


@asynccontextmanager
async def loaded(**args: Any) -> AsyncIterator[tuple[MockEngine, list[list[Output]]]]:
    engine = make(**args)
    steps: list[list[Output]] = []
    engine.deliver = steps.append
    await engine.load()
    yield engine, steps
    await engine.close()


async def until_idle(engine: MockEngine) -> None:
    async with asyncio.timeout(10.0):
        while engine.stats().running or engine.stats().waiting:
            await asyncio.sleep(0.001)


FAST = {"speedup": "inf"}
QUICK = {"step_base_s": 0.002, "prefill_tokens_per_s": 1e6}


@pytest.mark.parametrize("args", [FAST, QUICK, {"max-num-seqs": 2, **QUICK}])
async def test_many_jobs_at_once_are_all_answered(args: dict[str, Any]):
    async with loaded(**args) as (engine, steps):
        engine.generate(job("first", count=3))
        assert steps == [], "generate never calls back by itself"
        for number in range(9):
            engine.generate(job(str(number), f"prompt {number}", count=number + 1))
        await until_idle(engine)
        assert [len(tokens) for name, tokens in sorted(answers(steps).items())] == [*range(1, 10), 3]
        assert engine.stats().active_blocks == 0


async def test_prefill_elsewhere_and_decode_here():
    async with loaded(**FAST) as (decode, steps), loaded(**QUICK) as (other, _):
        asked = job("a", "a long prompt, prefilled elsewhere", 9)
        place = decode.reserve(asked)
        kv = await other.prefill(job("a", "a long prompt, prefilled elsewhere", kv=place))
        decode.generate(job("a", "a long prompt, prefilled elsewhere", 9, kv=kv))
        decode.generate(job("b", "a long prompt, prefilled elsewhere", 9))
        await until_idle(decode)
        assert answers(steps)["a"] == answers(steps)["b"]
        assert other.stats().active_blocks == decode.stats().active_blocks == 0


async def test_a_prefill_that_nobody_waits_for_any_more_is_forgotten():
    async with loaded(prefill_tokens_per_s=10) as (engine, _):
        task = asyncio.create_task(engine.prefill(job("a", "x" * 300, kv={})))
        await asyncio.sleep(0.02)
        assert engine.stats().active_blocks == 75
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert engine.stats().active_blocks == 0


async def test_a_failed_prefill_is_an_error():
    async with loaded(**FAST, faults={"fail_every": 1}) as (engine, _):
        with pytest.raises(EngineError, match=r"^the mock engine was told to fail this request$"):
            await engine.prefill(job("a"))


async def test_faults_can_be_changed_while_it_runs():
    async with loaded(**FAST) as (engine, steps):
        engine.inject(Faults(hang=True))
        engine.generate(job("a", count=2))
        await asyncio.sleep(0.02)
        assert steps == []
        engine.inject(Faults())
        await until_idle(engine)
        assert len(steps) == 2


async def test_the_loop_stays_fair_at_full_speed():
    async with loaded(**FAST, max_num_seqs=8, turn_tokens=16) as (engine, steps):
        for number in range(8):
            engine.generate(job(str(number), "x", 300))
        most = before = 0
        while engine.stats().running or engine.stats().waiting:
            await asyncio.sleep(0)
            made = sum(len(step) for step in steps)
            most, before = max(most, made - before), made
        assert before == 2400
        assert most <= 24


async def test_abort_and_kv_events_before_and_after_loading():
    engine = make(kv_blocks=50)
    events: list[KvEvents] = []
    engine.on_kv = events.append
    assert engine.stats() == Stats(0, total_blocks=50)
    assert engine.held() == (0, [])
    engine.abort("nobody")
    with pytest.raises(EngineError, match=r"^the mock engine is not loaded$"):
        engine.generate(job("a"))
    await engine.load()
    engine.generate(job("a", "12345678", 300), lambda output: None)
    async with asyncio.timeout(5.0):
        while not events:
            await asyncio.sleep(0.001)
    engine.abort("a")
    assert engine.stats().active_blocks == 0
    assert engine.held()[1] == block_hashes(list(b"12345678"), 4, 0)
    await engine.close()


async def test_loading_takes_its_time_and_can_fail(tmp_path: Any):
    engine = make(load_s=0.01, fail="no weights")
    with pytest.raises(EngineError, match=r"^no weights$"):
        await engine.load()
    await engine.close()
    without = MockEngine(Engine("mock"), block_hashes, str(tmp_path))
    with pytest.raises(EngineError) as caught:
        await without.load()
    assert str(caught.value) == f"{tmp_path}/tokenizer.json: no such file or directory"


def test_it_says_what_it_heeds():
    assert {"max_tokens", "seed", "ignore_eos", "logprobs", "stop_token_ids"} <= make().capabilities
    assert make(prefill_slots=3).slots == 3


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"sped": 1}, "Object contains unknown field `sped`"),
        ({"speedup": 0}, "Expected `float` > 0.0 - at `$.speedup`"),
        ({"faults": {"dye": True}}, "Object contains unknown field `dye` - at `$.faults`"),
        ({"max_num_batched_tokens": 8}, "max_num_batched_tokens must not be less than max_num_seqs"),
        ({"shortest_answer": 999}, "longest_answer must not be less than shortest_answer"),
    ],
)
def test_args_that_it_does_not_know_are_refused(args: dict[str, Any], why: str):
    with pytest.raises(EngineError) as caught:
        make(**args)
    assert str(caught.value) == f"engine.args of the mock engine: {why}"


def test_it_cannot_be_made_without_a_block_hash():
    with pytest.raises(EngineError, match=r"^the mock engine needs a block hash$"):
        make_engine(Engine("mock"))

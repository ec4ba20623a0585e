"""The vLLM engine over a stand-in for vLLM: what it makes of failures, and of things that never come."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dyno_runtime.core.blocks import block_hashes
from dyno_runtime.engine.base import EngineError, Job, Output
from dyno_runtime.engine.vllm import engine as module
from dyno_runtime.engine.vllm import ranks
from dyno_runtime.engine.vllm.engine import WARM_UP, VllmEngine
from dyno_runtime.engine.vllm.kv_listener import KvListener
from dyno_runtime.engine.vllm.ranks import VllmRank
from dyno_runtime.settings import Endpoint, Parallel, ProcessSettings
from dyno_runtime.wire.sampling import Sampling
from tests.runtime.engine.vllm_stand_in import Script, Stand, answer, kept, settings

TOKENS = [1, 2, 3, 4, 5]
KV = {"params": {"do_remote_prefill": True}, "lease_s": 0.2}


async def _nothing_heard(_: KvListener) -> None:
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def _no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no zmq here, and nobody would send events."""
    monkeypatch.setattr(KvListener, "run", _nothing_heard)
    monkeypatch.setattr(module, "prepare_environment", lambda _: None)
    monkeypatch.setattr(ranks, "prepare_environment", lambda _: None)


@asynccontextmanager
async def loaded(
    script: Script, monkeypatch: pytest.MonkeyPatch, asked: ProcessSettings | None = None
) -> AsyncIterator[VllmEngine]:
    monkeypatch.setattr(module, "load_library", lambda: Stand(script))
    engine = VllmEngine(asked or settings(), block_hashes, "engine-1")
    await engine.load()
    try:
        yield engine
    finally:
        await engine.close()


def job(name: str = "r", kv: dict[str, Any] | None = None) -> Job:
    return Job(name, TOKENS, Sampling(max_tokens=2), kv)


async def told(engine: VllmEngine, one: Job) -> list[Output]:
    outputs: list[Output] = []
    done = asyncio.Event()

    def emit(output: Output) -> None:
        outputs.append(output)
        if output.finish is not None:
            done.set()

    engine.generate(one, emit)
    async with asyncio.timeout(10):
        await done.wait()
    return outputs


def raising(error: Exception) -> Script:
    async def script(_: Any, tokens: int = 0) -> AsyncIterator[Any]:
        if not tokens:
            raise error
        yield answer(*range(tokens))

    return script


breaks = raising(RuntimeError("boom\nand more"))
refuses = raising(ValueError("the prompt is too long"))


def test_a_process_that_is_told_to_end_does_not_wait_for_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, free = threading.Event(), threading.Event()

    def load_library() -> Stand:
        begun.set()
        free.wait(30)
        raise EngineError("nobody hears it")

    async def life() -> None:
        loading = asyncio.create_task(VllmEngine(settings(), block_hashes, "engine-1").load())
        while not begun.is_set():
            await asyncio.sleep(0.01)
        loading.cancel()

    monkeypatch.setattr(module, "load_library", load_library)
    ended = threading.Thread(target=lambda: asyncio.run(life()))
    ended.start()
    ended.join(10)
    waits = ended.is_alive()
    free.set()
    ended.join()
    assert not waits


async def test_an_engine_that_is_loaded_has_answered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first steps take seconds; how long they took says nothing of how fast it prefills."""
    async with loaded(breaks, monkeypatch) as engine:
        assert [name for name, _ in engine._llm.asked] == [WARM_UP]
        assert engine._tally.brought == {WARM_UP}


async def test_a_lease_counts_from_the_end_of_the_prefill(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(_: Any) -> AsyncIterator[Any]:
        done = kept(ago_s=0.0)
        await asyncio.sleep(0.3)  # its output lies about: this process is busy
        yield done

    async with loaded(slow, monkeypatch, settings("prefill")) as engine:
        handed = await engine.prefill(job())
    assert handed is not None
    assert 25.0 < handed["lease_s"] <= 29.7


async def test_a_clock_of_another_machine_cannot_shorten_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    async def elsewhere(_: Any) -> AsyncIterator[Any]:
        yield kept(ago_s=10_000.0)

    async with loaded(elsewhere, monkeypatch, settings("prefill")) as engine:
        handed = await engine.prefill(job())
    assert handed is not None
    assert handed["lease_s"] > 25.0


async def test_a_prefill_that_breaks_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with loaded(breaks, monkeypatch, settings("prefill")) as engine:
        with pytest.raises(EngineError, match=r"^vLLM failed on this prefill: boom$"):
            await engine.prefill(job())
        assert engine.stats().queued_tokens == 0


async def test_what_vllm_refuses_is_the_clients_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    async with loaded(refuses, monkeypatch) as engine:
        (output,) = await told(engine, job())
    assert (output.error, output.bad) == ("the prompt is too long", True)


async def test_what_breaks_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async with loaded(breaks, monkeypatch) as engine:
        (output,) = await told(engine, job())
    assert (output.error, output.bad) == ("vLLM failed on this request: boom", False)


async def test_nothing_is_left_of_a_job_that_is_aborted_before_it_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with loaded(breaks, monkeypatch) as engine:
        engine.generate(job(kv=KV), lambda _: None)
        assert engine.stats().queued_tokens == len(TOKENS)
        engine.abort("r")
        await asyncio.sleep(0)
        assert (engine.stats().queued_tokens, engine._tally.brought) == (0, {WARM_UP})


async def test_an_engine_whose_kv_events_nobody_hears_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def deaf(_: KvListener) -> None:
        raise OSError("no socket")

    monkeypatch.setattr(KvListener, "run", deaf)
    async with loaded(breaks, monkeypatch) as engine, asyncio.timeout(5):
        assert await engine.ended() == (
            "nobody hears vLLM's KV events any more: OSError('no socket'); its block index would be wrong"
        )


async def test_kv_that_nobody_pushes_is_computed_here(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The prefill worker gave it up, or broke: vLLM's decode side would wait for it without end."""
    left = []

    async def waits(params: Any) -> AsyncIterator[Any]:
        if hasattr(params, "extra_args"):
            try:
                await asyncio.Event().wait()
            finally:
                left.append("aborted")  # as AsyncLLM does where its reader leaves
        yield answer(7, 8)

    async with loaded(waits, monkeypatch, settings(connector="nixl-push")) as engine:
        outputs = await told(engine, job(kv=KV))
        assert [output.tokens for output in outputs] == [[7, 8]]
        assert (left, engine._tally.brought) == (["aborted"], {WARM_UP})
        assert engine.totals().failed_kv_transfers == 1
    assert "r: no KV was pushed for it within 0.1 s; prefilling here" in caplog.text


async def test_kv_that_is_pushed_in_time_is_taken_however_long_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def long(params: Any) -> AsyncIterator[Any]:
        yield answer(7, finish=None)
        await asyncio.sleep(0.3)
        yield answer(8)

    async with loaded(long, monkeypatch, settings(connector="nixl-push")) as engine:
        outputs = await told(engine, job(kv=KV))
    assert [output.tokens for output in outputs] == [[7], [8]]
    assert engine._tally.brought == {WARM_UP, "r"}


async def test_blocks_that_are_only_cached_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with loaded(breaks, monkeypatch) as engine:
        engine._account._changes.stored(block_hashes(list(range(12)), 4, 0))
        assert (engine.stats().active_blocks, engine.stats().cached_blocks) == (0, 3)


async def test_every_rank_bears_the_name_of_its_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(breaks)
    monkeypatch.setattr(ranks, "load_library", lambda: stand)
    monkeypatch.setattr(module, "load_library", lambda: stand)
    monkeypatch.setattr(Stand, "option_names", lambda _: frozenset())
    spread = Parallel(tp=2, nodes=2, rank=1, head=Endpoint("10.0.0.1", 8300))
    with pytest.raises(EngineError, match="a stand-in has no configuration"):
        await VllmRank(settings("prefill", parallel=spread)).load("engine-1")
    of_rank = next(word for word in stand.words if word.startswith("--kv-transfer-config="))
    await VllmEngine(settings("prefill"), block_hashes, "engine-1").load()
    of_head = next(word for word in stand.words if word.startswith("--kv-transfer-config="))
    assert of_rank == of_head
    assert '"engine_id":"engine-1"' in of_rank

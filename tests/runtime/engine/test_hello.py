"""The hello engine: what it says, how it misbehaves on request, what it forgets."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from dyno_runtime.engine.base import EngineError, Job, Output, Stats
from dyno_runtime.engine.choose import make_engine
from dyno_runtime.engine.hello import HelloEngine
from dyno_runtime.settings import Engine


def tokens(text: str) -> list[int]:
    return list(text.encode())


async def run(engine: HelloEngine, job: Job) -> list[Output]:
    outputs: list[Output] = []
    done = asyncio.Event()

    def emit(output: Output) -> None:
        outputs.append(output)
        if output.finish is not None:
            done.set()

    engine.generate(job, emit)
    assert outputs == [], "generate never calls back by itself"
    async with asyncio.timeout(5.0):
        await done.wait()
    return outputs


@pytest.mark.parametrize("args", [{}, {"generate_s": 0.01}])
async def test_it_says_the_prompt_and_the_host(args: dict[str, Any]):
    engine = HelloEngine({"hostname": "NODE1", **args})
    await engine.load()
    assert await run(engine, Job("r", tokens("hi"))) == [Output(tokens("hi_GeneratedBy_NODE1"), "stop")]
    assert engine.stats() == Stats(running=0)


async def test_its_own_hostname_is_the_default():
    outputs = await run(HelloEngine({}), Job("r", []))
    assert bytes(outputs[0].tokens).decode() == f"_GeneratedBy_{socket.gethostname()}"


@pytest.mark.parametrize("args", [{"hang": True}, {"generate_s": 30.0}, {}])
async def test_abort_frees_at_once_and_silences(args: dict[str, Any]):
    engine = HelloEngine(args)
    outputs: list[Output] = []
    engine.generate(Job("r", []), outputs.append)
    assert engine.stats() == Stats(running=1)
    engine.abort("r")
    engine.abort("nobody")
    assert engine.stats() == Stats(running=0)
    await asyncio.sleep(0.01)
    assert outputs == []


async def test_loading_can_take_long_and_fail():
    engine = HelloEngine({"load_s": 0.01, "fail": "no weights"})
    with pytest.raises(EngineError, match=r"^no weights$"):
        await engine.load()


async def test_closing_aborts_everything():
    engine = HelloEngine({"generate_s": 30.0})
    for number in range(3):
        engine.generate(Job(str(number), []), lambda output: None)
    await engine.close()
    assert engine.stats() == Stats(running=0)


async def test_prefill_takes_its_time_and_hands_nothing_over():
    assert await HelloEngine({"prefill_s": 0.01}).prefill(Job("r", [1])) is None


def test_unknown_args_are_refused_by_name():
    with pytest.raises(EngineError) as caught:
        make_engine(Engine("hello", args={"lode_s": 1}))
    assert str(caught.value) == "engine.args of the hello engine: Object contains unknown field `lode_s`"

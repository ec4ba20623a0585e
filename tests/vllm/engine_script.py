"""What the real engine does behind the engine protocol, in one process of the environment that has it.

In: a model folder. Out: one JSON object on standard output, a key a scenario; `test_engine.py` judges. One engine for
all of them: its start costs more than everything else.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import zlib
from pathlib import Path
from typing import Any

import uvloop

from dyno_runtime.core.blocks import block_hashes
from dyno_runtime.engine.base import EngineError, Job, KvEvents, KvRemoved, Output
from dyno_runtime.engine.choose import engine_for
from dyno_runtime.engine.vllm.engine import VllmEngine
from dyno_runtime.engine.vllm.kv_listener import KvAccount, KvListener
from dyno_runtime.settings import Endpoint, Engine, Model, ProcessSettings, Services, Transfer
from dyno_runtime.wire.sampling import Sampling

BLOCK = 32
PROMPT = [(7 * number) % 500 + 20 for number in range(100)]
ARGS: dict[str, Any] = {
    "enforce-eager": True,
    "dtype": "float32",
    "max_num_seqs": 4,
    "kv-cache-memory-bytes": "64M",
    "num_gpu_blocks_override": 40,
}


def settings(model: str, **changes: Any) -> ProcessSettings:
    engine = Engine("vllm", "cpu", BLOCK, 1024, {**ARGS, **changes})
    return ProcessSettings(
        cluster="c",
        node="n",
        unit="decode-0",
        roles=("decode",),
        services=Services(("http://127.0.0.1:1",), "nats://127.0.0.1:1"),
        stream=Endpoint("127.0.0.1", 7300),
        model=Model("m", model),
        engine=engine,
        health_path="/dev/null",
        transfer=Transfer("nixl", Endpoint("127.0.0.1", int(os.environ["SIDE_CHANNEL"]))),
    )


class Bench:
    """An engine, and what it tells."""

    def __init__(self, model: str) -> None:
        engine = engine_for(settings(model), block_hashes, "one")
        assert isinstance(engine, VllmEngine)
        self.engine = engine
        self.told: dict[str, list[Output]] = {}
        self.kv: list[KvEvents] = []
        self.turned = asyncio.Event()
        engine.deliver = self._deliver
        engine.on_kv = self.kv.append

    def _deliver(self, outputs: list[Output]) -> None:
        for output in outputs:
            assert output.job is not None
            self.told.setdefault(output.job.id, []).append(output)
        self.turned.set()

    async def until(self, check: Any) -> None:
        async with asyncio.timeout(60):
            while not check():
                self.turned.clear()
                try:
                    async with asyncio.timeout(0.05):
                        await self.turned.wait()
                except TimeoutError:
                    pass

    async def run(self, name: str, salt: str = "", **wanted: Any) -> dict[str, Any]:
        tokens, kv = wanted.pop("tokens", PROMPT), wanted.pop("kv", None)
        sampling = Sampling(**{"max_tokens": 12, "temperature": 0, "ignore_eos": True, **wanted})
        before = self.engine.totals()
        self.engine.generate(Job(name, tokens, sampling, kv, salt=salt_of(salt or name)))
        await self.until(lambda: self.told.get(name) and self.told[name][-1].finish)
        outputs, after = self.told[name], self.engine.totals()
        return {
            "tokens": [token for output in outputs for token in output.tokens],
            "finish": outputs[-1].finish,
            "error": outputs[-1].error,
            "bad": outputs[-1].bad,
            "cached": outputs[0].cached_tokens,
            "logprobs": [
                (one.logprob, [token for token, _ in one.top])
                for output in outputs
                for one in output.logprobs or ()
            ],
            "computed": after.computed_tokens - before.computed_tokens,
            "failed_transfers": after.failed_kv_transfers - before.failed_kv_transfers,
        }


def salt_of(name: str) -> int:
    """What has its own name shares no block."""
    return zlib.crc32(name.encode())


async def refused(model: str, **changes: Any) -> str:
    try:
        await engine_for(settings(model, **changes), block_hashes, "one").load()
    except EngineError as error:
        return str(error)
    return "it was loaded"


async def scenarios(model: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "unknown": await refused(model, **{"max-num-seq": 4}),
        "wrong": await refused(model, **{"max-num-batched-tokens": "many"}),
    }
    bench = Bench(model)
    engine = bench.engine
    await engine.load()
    found["stats"] = engine.stats().total_blocks
    found["terms"] = engine.terms
    found["greedy"] = await bench.run("greedy")
    found["same"] = await bench.run("again", salt="greedy")
    await bench.until(lambda: len(engine.held()[1]) >= 3)
    found["held"] = set(block_hashes(PROMPT, BLOCK, salt_of("greedy"))) <= set(engine.held()[1])
    first = found["greedy"]["tokens"][3]
    found["stopped"] = await bench.run("stopped", stop_token_ids=(first,))
    found["logprobs"] = await bench.run("logprobs", logprobs=2)
    for name in ("seed a", "seed b"):
        found[name] = await bench.run(name, temperature=1.0, seed=5)
    found["penalty"] = await bench.run("penalty", repetition_penalty=1.9, max_tokens=24)
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["abc"]}}}
    found["form"] = await bench.run("form", response_format=form, ignore_eos=False)
    lost = {
        "do_remote_prefill": True,
        "do_remote_decode": False,
        "remote_block_ids": [[1, 2, 3, 4]],
        "remote_engine_id": "gone",
        "remote_request_id": "lost-00000000",
        "remote_host": "127.0.0.1",
        "remote_port": 9,
        "tp_size": 1,
        "dcp_size": 1,
        "pp_size": 1,
        "remote_num_tokens": len(PROMPT),
        "transfer_mode": "pull",
    }
    found["lost"] = await bench.run("lost", kv={"params": lost, "lease_s": 30.0})
    for number in range(12):
        await bench.run(f"more {number}", tokens=[(number * 31 + place) % 900 for place in range(100)])
    await bench.until(lambda: len(engine.held()[1]) <= 40)
    removed = [change for events in bench.kv for change in events.changes if isinstance(change, KvRemoved)]
    found["evicted"] = (len(removed) > 0, len(engine.held()[1]) <= 40)
    found["gaps"] = [one.seq for one in bench.kv] == list(range(1, len(bench.kv) + 1))
    found["replayed"] = await replayed(bench)
    found["aborted"] = await aborted(bench)
    found["long"] = await bench.run("too long", tokens=[5] * 1100)
    await bench.run("warm")
    await bench.until(lambda: engine.stats().running == 0)
    found["cached"] = (engine.stats().cached_blocks, len(engine.held()[1]))
    handed = await engine.prefill(Job("handed", PROMPT, Sampling()))
    found["lease_s"] = handed["lease_s"] if handed is not None else None
    found["died"] = await died(bench)
    await engine.close()
    return found


async def replayed(bench: Bench) -> bool:
    """Somebody who begins to listen late has missed everything so far, and asks for it."""
    first = bench.engine._listener
    assert first is not None
    late = KvListener(KvAccount(BLOCK, block_hashes), first.folder)
    hearing = asyncio.create_task(late.run())
    number = 0
    async with asyncio.timeout(30):
        while not late.account.held()[1]:
            number += 1
            await bench.run(f"late {number}")
            await asyncio.sleep(0.1)
    hearing.cancel()
    return set(late.account.held()[1]) == set(bench.engine.held()[1])


async def aborted(bench: Bench) -> dict[str, Any]:
    bench.engine.generate(Job("long", PROMPT, Sampling(max_tokens=900, temperature=0, ignore_eos=True)))
    await bench.until(lambda: bench.told.get("long"))
    busy = bench.engine.stats()
    bench.engine.abort("long")
    count = len(bench.told["long"])
    await bench.until(lambda: bench.engine.stats().running == 0)
    after = bench.engine.stats()
    return {
        "busy": (busy.running, busy.active_blocks > 0),
        "after": (after.running, after.active_blocks),
        "silent": len(bench.told["long"]) == count,
    }


async def died(bench: Bench) -> dict[str, Any]:
    """Its child is killed in the middle of a request."""
    bench.engine.generate(Job("dying", PROMPT, Sampling(max_tokens=900, temperature=0, ignore_eos=True)))
    await bench.until(lambda: bench.told.get("dying"))
    ended = asyncio.create_task(bench.engine.ended())
    for line in Path("/proc/self/task").glob("*/children"):
        for pid in line.read_text().split():
            if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
    async with asyncio.timeout(10):
        why = await ended
    return {"why": why, "told": [output.error for output in bench.told["dying"] if output.error]}


if __name__ == "__main__":
    result = uvloop.run(scenarios(sys.argv[1]))
    Path(sys.argv[2]).write_text(json.dumps(result))

"""What the mock engine itself costs, and how well it keeps time: `python -m benchmarks.mock_engine`.

In: nothing. Out: two Markdown tables. At speedup inf: microseconds of CPU for each output token and each request, on
the loop that the runtime uses, up to and with one `deliver` a step. In real time: steps as modelled, and as they
came.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
from itertools import pairwise
from typing import Any

import uvloop

from benchmarks.report import table
from dyno_runtime.core.blocks import block_hashes
from dyno_runtime.engine.base import Job, Output
from dyno_runtime.engine.mock.engine import MockEngine
from dyno_runtime.settings import Engine
from dyno_runtime.wire.sampling import Sampling

LONGEST_S = 120.0


def make(block_size: int, **args: Any) -> MockEngine:
    """An engine with these args, not loaded yet."""
    settings = Engine("mock", block_size=block_size, max_model_len=65_536, args={"kv_blocks": 65_536, **args})
    return MockEngine(settings, block_hashes)


async def drive(engine: MockEngine, at_once: int, requests: int, prompt_tokens: int, tokens: int) -> float:
    """CPU seconds for so many requests, `at_once` of them at any time."""
    done = asyncio.Event()
    left, started = requests, 0
    sampling = Sampling(max_tokens=tokens, ignore_eos=True)
    # Prompts of their own, so that nothing is found in the cache.
    prompts = [[number, *range(prompt_tokens - 1)] for number in range(requests)]

    def begin() -> None:
        nonlocal started
        if started < requests:
            engine.generate(Job(str(started), prompts[started], sampling))
            started += 1

    def deliver(outputs: list[Output]) -> None:
        nonlocal left
        for output in outputs:
            if output.finish is not None:
                left -= 1
                begin()
        if not left:
            done.set()

    engine.deliver = deliver
    engine.on_kv = lambda events: None
    await engine.load()
    gc.collect()
    gc.freeze()
    begun_s = time.process_time()
    for _ in range(at_once):
        begin()
    async with asyncio.timeout(LONGEST_S):
        await done.wait()
    used_s = time.process_time() - begun_s
    await engine.close()
    return used_s


async def cost(block_size: int, at_once: int, prompt_tokens: int, tokens: int, total: int) -> float:
    """CPU microseconds a request, the best of three."""
    requests = max(total // tokens, at_once)
    best_s = min(
        [
            await drive(make(block_size, speedup="inf"), at_once, requests, prompt_tokens, tokens)
            for _ in range(3)
        ]
    )
    return best_s / requests * 1e6


async def costs() -> str:
    """The first table."""
    rows = []
    for block_size in (16, 64):
        for at_once in (1, 32, 256):
            one = await cost(block_size, at_once, 32, 1, 3000)
            many = await cost(block_size, at_once, 32, 129, 200_000)
            long = await cost(block_size, at_once, 8192, 1, 300)
            rows.append(
                [str(block_size), str(at_once), f"{(many - one) / 128:.2f}", f"{one:.1f}", f"{long:.0f}"]
            )
    return table(
        ["block size", "at once", "µs a token", "µs a request, 32 tokens in, 1 out", "the same, 8,192 in"],
        rows,
    )


async def keep_time(at_once: int, steps: int) -> list[str]:
    """One row: how long steps should take, and how long they took."""
    engine = make(64)
    seen: list[float] = []
    done = asyncio.Event()

    def deliver(outputs: list[Output]) -> None:
        seen.append(time.perf_counter())
        if outputs[-1].finish is not None:
            done.set()

    engine.deliver = deliver
    await engine.load()
    args = engine.machine.args
    for number in range(at_once):
        engine.generate(Job(str(number), [number, 1], Sampling(max_tokens=steps + 1, ignore_eos=True)))
    async with asyncio.timeout(LONGEST_S):
        await done.wait()
    await engine.close()
    should_s = sum(args.step_s(at_once, at_once * (3 + step), 0) for step in range(steps)) / steps
    gaps = [later - earlier for earlier, later in pairwise(seen)]
    mean_s = statistics.fmean(gaps)
    off_ms = sorted(abs(gap - should_s) * 1000 for gap in gaps)
    return [
        str(at_once),
        f"{should_s * 1000:.3f}",
        f"{mean_s * 1000:.3f}",
        f"{(mean_s / should_s - 1) * 100:+.2f} %",
        f"{off_ms[len(off_ms) // 2]:.2f}",
        f"{off_ms[len(off_ms) * 99 // 100]:.2f}",
    ]


async def accuracy() -> str:
    """The second table."""
    rows = [await keep_time(at_once, 200) for at_once in (1, 32, 256)]
    return table(["at once", "step, ms", "measured, ms", "off", "off by, ms, p50", "p99"], rows)


async def measure() -> None:
    """Both tables."""
    print(await costs(), flush=True)
    print()
    print(await accuracy())


def main() -> int:
    """Print the tables."""
    argparse.ArgumentParser(prog="python -m benchmarks.mock_engine", description=__doc__).parse_args()
    uvloop.run(measure())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

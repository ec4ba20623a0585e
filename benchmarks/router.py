"""What one routing decision costs: `python -m benchmarks.router`.

In: nothing. Out: a table on standard output of microseconds a decision, bytes a block, and events a second;
with `--json` a line of JSON. Each figure is the best of several rounds, because other programs can only make it
worse.
"""

from __future__ import annotations

import argparse
import json
import sys
import tracemalloc
from collections.abc import Callable
from random import Random
from time import perf_counter, thread_time

import msgspec

from dyno_runtime.core.blocks import block_hashes, salt
from dyno_runtime.core.chooser import Chooser, Worker
from dyno_runtime.core.policies import Choice, Request
from dyno_runtime.core.prefix_index import PrefixIndex
from dyno_runtime.wire.kv import KvBatch, LoadReport

PROMPT_TOKENS = 8192
BLOCK_SIZE = 16
ROUNDS = 200
MODEL = "benchmark"


def best_us(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The fastest of many rounds, in microseconds."""
    best = float("inf")
    for _ in range(rounds):
        began = perf_counter()
        work()
        best = min(best, perf_counter() - began)
    return best * 1e6


def fleet(workers: int, rng: Random) -> tuple[Chooser, list[int]]:
    """A chooser with this many workers: all hold the system prompt, twenty a part of the prompt, one almost all
    of it."""
    mind = Chooser(BLOCK_SIZE, "kv", rng, max_blocks=4_000_000)
    tokens = [rng.randrange(128_000) for _ in range(PROMPT_TOKENS)]
    blocks = block_hashes(tokens, BLOCK_SIZE, salt(MODEL))
    for number in range(workers):
        lease = f"{number:016x}"
        mind.seen(Worker(lease, frozenset([MODEL]), BLOCK_SIZE), 0.0)
        known = 500 if number == 3 else 20 * number if number < 20 else 4
        mind.batch(lease, KvBatch(1, tuple(blocks[:known])), 0.0)
        running = rng.randrange(20)
        mind.report(lease, LoadReport(running, 1, rng.randrange(9000), running * 50, 4000, 0.0, 1), 0.0)
    return mind, tokens


def decision(workers: int) -> dict[str, float]:
    """Microseconds of the parts of one decision."""
    mind, tokens = fleet(workers, Random(1))
    parent = salt(MODEL)
    blocks = block_hashes(tokens, BLOCK_SIZE, parent)
    request = Request("r", MODEL, PROMPT_TOKENS, blocks)

    def whole() -> object:
        hashes = block_hashes(tokens, BLOCK_SIZE, parent)
        return mind.choose(Request("r", MODEL, PROMPT_TOKENS, hashes))

    choice = mind.choose(request)
    assert isinstance(choice, Choice)

    def follow() -> None:
        mind.routed(request, choice, 0.0)
        mind.begun("r", 0.0)
        mind.ended("r", 0.0)

    return {
        "hash_us": best_us(lambda: block_hashes(tokens, BLOCK_SIZE, parent)),
        "lookup_us": best_us(lambda: mind.index.match(blocks)),
        "hash_lookup_choice_us": best_us(whole),
        "follow_up_us": best_us(follow),
    }


def memory(blocks: int, workers: int) -> dict[str, float]:
    """Megabytes of an index, every fifth block held by two workers."""
    rng = Random(1)
    leases = [f"{number:016x}" for number in range(workers)]
    tracemalloc.start()
    index = PrefixIndex(max_blocks=blocks)
    for lease in leases:
        index.add(lease)
    while len(index) < blocks - 64:
        some = [rng.getrandbits(64) for _ in range(64)]
        index.store(leases[rng.randrange(workers)], some)
        index.store(leases[rng.randrange(workers)], some[:13])
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"megabytes": now / 1e6, "peak_megabytes": peak / 1e6}


def events(workers: int, batches: int = 4000) -> dict[str, float]:
    """Blocks a second through decoding, the feed and the index: each batch stores 64 and removes 64."""
    rng = Random(1)
    mind = Chooser(BLOCK_SIZE, "kv", rng)
    leases = [f"{number:016x}" for number in range(workers)]
    for lease in leases:
        mind.seen(Worker(lease, frozenset([MODEL]), BLOCK_SIZE), 0.0)
    messages: list[tuple[str, bytes]] = []
    last: dict[str, list[tuple[int, ...]]] = {lease: [] for lease in leases}
    for number in range(batches):
        lease = leases[number % workers]
        stored = tuple(rng.getrandbits(64) for _ in range(64))
        last[lease].append(stored)
        old = last[lease].pop(0) if len(last[lease]) > 20 else ()
        messages.append((lease, msgspec.msgpack.encode(KvBatch(number // workers + 1, stored, old))))
    decoder = msgspec.msgpack.Decoder(KvBatch)
    began = perf_counter()
    count = 0
    for lease, data in messages:
        batch = decoder.decode(data)
        mind.batch(lease, batch, 0.0)
        count += len(batch.stored) + len(batch.removed)
    return {"blocks_per_s": count / (perf_counter() - began)}


def stall(blocks: int, workers: int = 32) -> dict[str, float]:
    """The longest single call around a worker's end and at the index's bound, in milliseconds."""
    rng = Random(1)
    index = PrefixIndex(max_blocks=blocks)
    leases = [f"{number:016x}" for number in range(workers)]
    for lease in leases:
        index.add(lease)
    while len(index) < blocks - 64:
        index.store(leases[rng.randrange(workers)], [rng.getrandbits(64) for _ in range(64)])
    began = thread_time()
    index.remove(leases[0])
    death_s = thread_time() - began
    longest_s = 0.0
    for _ in range(20_000):
        some = [rng.getrandbits(64) for _ in range(64)]
        began = thread_time()
        index.store(leases[1], some)
        longest_s = max(longest_s, thread_time() - began)
    return {"death_ms": death_s * 1e3, "longest_store_ms": longest_s * 1e3}


def main() -> int:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.router", description=__doc__)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = {
        "decision, 32 workers": decision(32),
        "decision, 1,000 workers": decision(1000),
        "index, 1 M blocks, 32 workers": memory(1_000_000, 32),
        "index, 1 M blocks, 1,000 workers": memory(1_000_000, 1000),
        "events, 32 workers": events(32),
        "events, 1,000 workers": events(1000),
        "stalls, 1 M blocks": stall(1_000_000),
    }
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, values in figures.items():
            text = ", ".join(f"{key} {value:,.1f}" for key, value in values.items())
            print(f"{name}: {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

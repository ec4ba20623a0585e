"""Request traces in Mooncake's JSONL form, made from a seed: `python -m benchmarks.trace conversation > FILE`.

In: a shape, a number of requests, a seed. Out: one JSON object a line, `timestamp` (ms), `input_length`,
`output_length`, and `hash_ids`, one for each 512 tokens begun; equal ids mean equal prefixes up to there.

The two shapes follow what was measured on the public conversation and agent traces: lengths and delays are
lognormal, given as median and 90th percentile. A shape of its own is one `Shape`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from heapq import heappop, heappush
from math import log
from pathlib import Path
from random import Random

BLOCK_TOKENS = 512
_Z90 = 1.2816  # the 90th percentile of the normal distribution


@dataclass(frozen=True)
class Row:
    """One request of a trace; `timestamp` in milliseconds from its start."""

    timestamp: int
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...]


@dataclass(frozen=True)
class Spread:
    """A lognormal distribution."""

    median: float
    p90: float

    def draw(self, rng: Random) -> float:
        """One number."""
        return rng.lognormvariate(log(self.median), log(self.p90 / self.median) / _Z90)


@dataclass(frozen=True)
class Shape:
    """How requests look. `prompts` common beginnings of `prompt_blocks` blocks are shared among all sessions,
    unevenly.

    Most sessions go on with probability `casual` after each answer, the part `keen_part` of them with `keen`.
    """

    per_s: float
    prompts: int
    prompt_blocks: Spread
    first: Spread
    tail: Spread
    output: Spread
    delay_s: Spread
    casual: float
    keen: float
    keen_part: float
    max_input: int = 126_000


CONVERSATION = Shape(
    per_s=3.4,
    prompts=1,
    prompt_blocks=Spread(1, 1.0001),
    first=Spread(4900, 22_000),
    tail=Spread(830, 7700),
    output=Spread(350, 597),
    delay_s=Spread(123, 483),
    casual=0.2,
    keen=0.805,
    keen_part=0.1,
)
AGENT = Shape(
    per_s=3.9,
    prompts=24,
    prompt_blocks=Spread(6, 20),
    first=Spread(6500, 26_000),
    tail=Spread(337, 893),
    output=Spread(69, 389),
    delay_s=Spread(64, 294),
    casual=0.3,
    keen=0.85,
    keen_part=0.12,
)
SHAPES = {"conversation": CONVERSATION, "agent": AGENT}


@dataclass
class _Session:
    ids: tuple[int, ...]
    length: int  # tokens of the next prompt
    go_on: float


def generate(shape: Shape, requests: int, seed: int) -> Iterator[Row]:
    """The rows in order of time: new sessions come at random, and those that live come back after a while."""
    return _Generator(shape, seed).rows(requests)


class _Generator:
    def __init__(self, shape: Shape, seed: int) -> None:
        self._shape = shape
        self._rng = Random(seed)
        self._ids = 0
        self._prompts = [self._new_ids(self._blocks(shape.prompt_blocks)) for _ in range(shape.prompts)]
        self._back: list[tuple[float, int, _Session]] = []

    def rows(self, requests: int) -> Iterator[Row]:
        shape, rng = self._shape, self._rng
        requests_of_a_session = (1 - shape.keen_part) / (1 - shape.casual) + shape.keen_part / (
            1 - shape.keen
        )
        per_s = shape.per_s / requests_of_a_session
        opening_s = rng.expovariate(per_s)
        for count in range(requests):
            if self._back and self._back[0][0] <= opening_s:
                at_s, _, session = heappop(self._back)
            else:
                at_s, session = opening_s, self._open()
                opening_s += rng.expovariate(per_s)
            output = max(1, round(shape.output.draw(rng)))
            yield Row(round(at_s * 1000), session.length, output, session.ids)
            if rng.random() < session.go_on:
                self._go_on(session, output)
                if session.length < shape.max_input:
                    heappush(self._back, (at_s + shape.delay_s.draw(rng), count, session))

    def _open(self) -> _Session:
        shape, rng = self._shape, self._rng
        # Squared, so that the first of the common beginnings is far more frequent than the last.
        common = self._prompts[int(rng.random() ** 2 * len(self._prompts))]
        length = min(len(common) * BLOCK_TOKENS + round(shape.first.draw(rng)), shape.max_input)
        go_on = shape.keen if rng.random() < shape.keen_part else shape.casual
        return self._grown(_Session(common, 0, go_on), length)

    def _go_on(self, session: _Session, output: int) -> None:
        length = session.length + output + max(1, round(self._shape.tail.draw(self._rng)))
        # The last block was not full, so it goes on as another one.
        session.ids = session.ids[: session.length // BLOCK_TOKENS]
        self._grown(session, length)

    def _grown(self, session: _Session, length: int) -> _Session:
        blocks = -(-length // BLOCK_TOKENS)
        session.ids = (*session.ids[:blocks], *self._new_ids(blocks - len(session.ids)))
        session.length = length
        return session

    def _blocks(self, spread: Spread) -> int:
        return max(1, round(spread.draw(self._rng)))

    def _new_ids(self, count: int) -> tuple[int, ...]:
        first, self._ids = self._ids, self._ids + max(count, 0)
        return tuple(range(first, self._ids))


def read(path: Path) -> list[Row]:
    """A trace from a file of this form."""
    rows = (json.loads(line) for line in path.read_text().splitlines() if line.strip())
    return [
        Row(row["timestamp"], row["input_length"], row["output_length"], tuple(row["hash_ids"]))
        for row in rows
    ]


def ideal_hits(rows: Iterable[Row]) -> float:
    """The part of all prompt tokens that one cache without end would hold."""
    known: set[int] = set()
    hits = total = 0
    for row in rows:
        for number in row.hash_ids[: row.input_length // BLOCK_TOKENS]:
            hits += BLOCK_TOKENS if number in known else 0
            known.add(number)
        total += row.input_length
    return hits / max(total, 1)


def main() -> int:
    """Write a trace to standard output."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trace", description=__doc__)
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("--requests", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    for row in generate(SHAPES[asked.shape], asked.requests, asked.seed):
        sys.stdout.write(json.dumps(asdict(row)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

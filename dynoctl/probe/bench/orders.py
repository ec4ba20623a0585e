"""The requests of a point, ready to be sent.

In: a load, a writer of prompts, where they go. Out: `Order`s: bytes, and what is expected of the answer. All that can
be made before the first one is sent is made then, so that making it does not disturb what is measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Protocol
from urllib.parse import SplitResult

from dynoctl.bench.load import Load
from dynoctl.probe.bench.trace import BLOCK_TOKENS, Row
from dynoctl.probe.bench.writer import Writer

MOST_BYTES = 256_000_000  # of prepared requests; beyond, they are sent again from the first one on


@dataclass(frozen=True, slots=True)
class Order:
    """One request. `at_s` counts from the start where a schedule says when; `past` is the conversation with it."""

    data: bytes
    tokens: int
    at_s: float | None = None
    turn: int = 1
    past: tuple[dict[str, str], ...] = ()


class Orders(Protocol):
    """Where the generator gets requests from."""

    def fresh(self) -> Order:
        """The next conversation's first request."""

    def follow(self, order: Order, answer: str) -> Order | None:
        """The next request of a conversation; None at its end."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What stands around every prompt."""

    url: SplitResult
    model: str
    key: str | None = None

    def request(self, messages: tuple[dict[str, str], ...], tokens: int) -> bytes:
        """The bytes of one request: streamed, so long and no other."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": tokens,
            "min_tokens": tokens,
            "ignore_eos": True,
        }
        data = json.dumps(body).encode()
        path = f"{self.url.path.rstrip('/')}/v1/chat/completions"
        lines = [f"POST {path} HTTP/1.1", f"Host: {self.url.netloc}", "Content-Type: application/json"]
        if self.key:
            lines.append(f"Authorization: Bearer {self.key}")
        lines.append(f"Content-Length: {len(data)}")
        return "\r\n".join([*lines, "", ""]).encode() + data


class Synthetic:
    """Prompts of random words. Beginnings that are shared are made of the seed, too."""

    def __init__(self, load: Load, writer: Writer, envelope: Envelope) -> None:
        self._load = load
        self._writer = writer
        self._envelope = envelope
        self._random = Random(load.seed)
        self._prefixes = [writer.write(self._random, load.prefix_tokens) for _ in range(load.prefixes)]
        self._ready: list[Order] = []
        self._next = 0
        size = 0
        conversations = -(-(load.requests + load.warmup) // load.turns)
        while len(self._ready) < conversations and size < MOST_BYTES:
            one = self._made(())
            size += len(one.data)
            self._ready.append(one)

    @property
    def distinct(self) -> int:
        """How many different ones there are."""
        return len(self._ready)

    def fresh(self) -> Order:
        order = self._ready[self._next % len(self._ready)]
        self._next += 1
        return order

    def follow(self, order: Order, answer: str) -> Order | None:
        if order.turn >= self._load.turns:
            return None
        past = (*order.past, {"role": "assistant", "content": answer})
        return replace(self._made(past), turn=order.turn + 1)

    def _made(self, past: tuple[dict[str, str], ...]) -> Order:
        load, random = self._load, self._random
        text = self._writer.write(random, _draw(random, load.input_tokens, load.input_stddev))
        if load.prefix_tokens and not past:
            text = f"{random.choice(self._prefixes)} {text}"
        tokens = _draw(random, load.output_tokens, load.output_stddev)
        messages = (*past, {"role": "user", "content": text})
        return Order(self._envelope.request(messages, tokens), tokens, past=messages)


class Replay:
    """The requests of a trace, at their times. Equal hash ids make equal text. Warm-up requests are of their own."""

    def __init__(self, rows: list[Row], load: Load, writer: Writer, envelope: Envelope) -> None:
        self._random = Random(load.seed)
        self._seed = load.seed
        self._writer = writer
        self._blocks: dict[int, str] = {}
        warm = [
            self._order(Row(0, load.input_tokens, load.output_tokens), None, envelope)
            for _ in range(load.warmup)
        ]
        start = rows[0].timestamp
        self._ready = warm + [
            self._order(row, (row.timestamp - start) / 1000 / load.trace_speed, envelope)
            for row in rows[: load.requests]
        ]
        self._next = 0

    def fresh(self) -> Order:
        order = self._ready[self._next % len(self._ready)]
        self._next += 1
        return order

    def follow(self, order: Order, answer: str) -> Order | None:
        return None

    def _order(self, row: Row, at_s: float | None, envelope: Envelope) -> Order:
        text, left = "", row.input_length
        for block in row.hash_ids:
            text += self._block(block) if left >= BLOCK_TOKENS else self._part(block, left)
            left -= BLOCK_TOKENS
        if left > 0:
            text += self._writer.write(self._random, left)
        data = envelope.request(({"role": "user", "content": text},), row.output_length)
        return Order(data, row.output_length, at_s)

    def _block(self, number: int) -> str:
        if number not in self._blocks:
            self._blocks[number] = self._part(number, BLOCK_TOKENS)
        return self._blocks[number]

    def _part(self, number: int, tokens: int) -> str:
        # A part of a block is a beginning of it: what was cached of the one can be used by the other.
        return self._writer.write(Random(f"{self._seed}/{number}"), tokens) if tokens > 0 else ""


def _draw(random: Random, mean: int, stddev: int) -> int:
    return max(1, round(random.gauss(mean, stddev))) if stddev else mean


OrdersMaker = Callable[[Load], Orders]

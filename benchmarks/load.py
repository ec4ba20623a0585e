"""A closed-loop load generator for OpenAI servers: so many clients, each asks again once it is answered.

In: a URL, the body of a request, how many clients, how long. Out: a `Figures`. One connection a client, answers
parsed by httptools alone; events are counted, not decoded.
"""

from __future__ import annotations

import asyncio
import re
import resource
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

_SAID = re.compile(rb'"completion_tokens":\s*(\d+)')
_TEXT = re.compile(rb'"content":\s*"[^"]')  # of an event that has a token; the first one only says who speaks


@dataclass
class Figures:
    """What was measured; times in seconds. `gaps_s` are the times between two events of a stream."""

    requests: int = 0
    failed: int = 0
    tokens: int = 0
    events: int = 0
    wall_s: float = 0.0
    client_cpu_s: float = 0.0
    first_s: array[float] = field(default_factory=lambda: array("d"))
    gaps_s: array[float] = field(default_factory=lambda: array("d"))
    whole_s: array[float] = field(default_factory=lambda: array("d"))


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._tcp: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._sent_s = self._last_s = 0.0
        self._events = 0
        self._first = False
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has a class of its own.
        self._tcp = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        assert self._tcp is not None
        if self._load.over:
            self._tcp.close()
            return
        self._parser = httptools.HttpResponseParser(self)
        self._events, self._first, self._tail = 0, False, b""
        self._sent_s = self._last_s = time.perf_counter()
        self._tcp.write(self._load.next())

    def data_received(self, data: bytes) -> None:
        count = data.count(b"data: {")
        figures = self._load.figures
        if count:
            now_s = time.perf_counter()
            self._events += count
            if self._first:
                figures.gaps_s.append(now_s - self._last_s)
                self._last_s = now_s
            elif _TEXT.search(data):
                self._first = True
                figures.first_s.append(now_s - self._sent_s)
                self._last_s = now_s
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._tail = body if len(body) > 400 else self._tail[-400:] + body

    def on_message_complete(self) -> None:
        figures = self._load.figures
        if self._parser.get_status_code() != 200:
            figures.failed += 1
            self._load.problem = self._load.problem or self._tail
        else:
            figures.requests += 1
            figures.events += self._events
            figures.whole_s.append(time.perf_counter() - self._sent_s)
            said = _SAID.findall(self._tail)
            figures.tokens += int(said[-1]) if said else 0
        asyncio.get_running_loop().call_soon(self._send)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._load.over:
            self._load.figures.failed += 1
            self._load.problem = self._load.problem or b"the connection was closed"
        self._load.left()


class Load:
    """All clients of one run."""

    def __init__(self, next_request: Callable[[], bytes], clients: int) -> None:
        self.next = next_request
        self.figures = Figures()
        self.over = False
        self.problem = b""
        self._clients = clients
        self._gone = asyncio.Event()

    def left(self) -> None:
        """A client is done."""
        self._clients -= 1
        if not self._clients:
            self._gone.set()

    async def run(self, url: str, measured_s: float, warm_s: float) -> Figures:
        """Warm up, measure, stop."""
        where = urlsplit(url)
        loop = asyncio.get_running_loop()
        for _ in range(self._clients):
            await loop.create_connection(lambda: Client(self), where.hostname or "", where.port or 80)
        await asyncio.sleep(warm_s)
        self.figures = Figures()
        start_s, cpu_s = time.perf_counter(), _own_cpu_s()
        await asyncio.sleep(measured_s)
        figures = self.figures
        figures.wall_s = time.perf_counter() - start_s
        figures.client_cpu_s = _own_cpu_s() - cpu_s
        self.over = True
        self.figures = Figures()
        async with asyncio.timeout(30):
            await self._gone.wait()
        return figures


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

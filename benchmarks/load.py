"""A closed-loop load generator for OpenAI servers: so many clients, each asks again once it is answered.

In: a URL, the body of a request, how many clients, how long. Out: a `Figures`. The connections are those of
`dynoctl bench`.
"""

from __future__ import annotations

import asyncio
import resource
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from dynoctl.probe.bench.client import Client


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


class Load:
    """All clients of one run."""

    def __init__(self, next_request: Callable[[], bytes], clients: int) -> None:
        self.next = next_request
        self.figures = Figures()
        self.problem = b""
        self._ended = False
        self._clients = clients
        self._gone = asyncio.Event()

    def ready(self, client: Client) -> None:
        """A connection is there."""
        self._send(client)

    def over(self, client: Client) -> None:
        """A request is answered."""
        figures = self.figures
        if client.status != 200:
            figures.failed += 1
            self.problem = self.problem or client.tail
        else:
            figures.requests += 1
            figures.events += client.events
            figures.whole_s.append(client.over_s - client.sent_s)
            if client.events and client.first_s:
                figures.first_s.append(client.first_s - client.sent_s)
            figures.tokens += client.usage[1] or 0
        asyncio.get_running_loop().call_soon(self._send, client)

    def lost(self, client: Client, why: str) -> None:
        """A connection has ended."""
        self.figures.failed += 1
        self.problem = self.problem or why.encode()
        self._left()

    def _send(self, client: Client) -> None:
        if self._ended:
            client.end()
            self._left()
            return
        client.gaps_s = self.figures.gaps_s
        client.send(self.next())

    def _left(self) -> None:
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
        self._ended = True
        self.figures = Figures()
        async with asyncio.timeout(30):
            await self._gone.wait()
        return figures


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

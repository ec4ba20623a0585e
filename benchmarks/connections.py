"""What open connections cost: memory of one that is idle, and thousands of streams at the same time.

In: how many. Out: a table; exit status 1 where a stream failed. The frontend's memory is looked at before and after
each connection has asked once; then as many clients stream at once from two mock engines that take their time:

    .venv/bin/python -m benchmarks.connections [--idle 2000] [--streams 2000] [--tokens 64]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from benchmarks.mocks import MODEL, Mocks, mocks
from benchmarks.report import table
from benchmarks.serve import Scenario, request_maker
from dynoctl.probe.bench.client import Client

# As long for a step as a real engine takes with so many in decode.
ENGINE = {"speedup": 1.0, "kv_blocks": 65536, "max_num_seqs": 2048}
DEADLINE_S = 120.0


class Crowd:
    """Clients that ask once each, and keep their connections."""

    def __init__(self, requests: list[bytes]) -> None:
        self.done = asyncio.Event()
        self.good = self.failed = self.tokens = self.most_open = 0
        self.problem = ""
        self._count = len(requests)
        self._requests = requests
        self._clients: list[Client] = []
        self._open = 0

    async def ask(self, url: str) -> None:
        """Connect all, then ask with all at once, and wait for the answers."""
        where, loop = urlsplit(url), asyncio.get_running_loop()
        for _ in range(self._count):
            await loop.create_connection(lambda: Client(self), where.hostname or "", where.port or 80)
        for client, request in zip(self._clients, self._requests, strict=True):
            self._open += 1
            client.send(request)
        self.most_open = self._open
        async with asyncio.timeout(DEADLINE_S):
            await self.done.wait()

    def ready(self, client: Client) -> None:
        """A connection is there."""
        self._clients.append(client)

    def over(self, client: Client) -> None:
        """An answer has ended."""
        if client.status == 200 and client.usage[1]:
            self.good += 1
            self.tokens += client.usage[1]
        else:
            self._failed(client.tail.decode(errors="replace"))
        self._over()

    def lost(self, client: Client, why: str) -> None:
        """A connection has ended."""
        self._failed(why)
        self._over()

    def _failed(self, why: str) -> None:
        self.failed += 1
        self.problem = self.problem or why

    def _over(self) -> None:
        self._open -= 1
        if self.good + self.failed == self._count:
            self.done.set()

    def close(self) -> None:
        """Let go of all connections."""
        for client in self._clients:
            client.end()


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def requests_for(target: Mocks, count: int, tokens: int, *, stream: bool) -> list[bytes]:
    """So many requests of 32 words."""
    make = request_maker(target.url.removeprefix("http://"), MODEL, Scenario("", count, 32, tokens, stream))
    return [make() for _ in range(count)]


async def idle(target: Mocks, count: int) -> float:
    """Bytes of the frontend for each idle connection."""
    pid = target.pids["frontend-0"]
    warm = Crowd(requests_for(target, 64, 1, stream=False))
    await warm.ask(target.url)
    before = resident_bytes(pid)
    crowd = Crowd(requests_for(target, count, 1, stream=False))
    await crowd.ask(target.url)
    grown = resident_bytes(pid) - before
    crowd.close()
    warm.close()
    return grown / count


async def streams(target: Mocks, count: int, tokens: int) -> Crowd:
    """All streams at once."""
    crowd = Crowd(requests_for(target, count, tokens, stream=True))
    await crowd.ask(target.url)
    crowd.close()
    return crowd


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=64)
    given = parser.parse_args()
    with mocks(2, ENGINE, None) as target:
        each = uvloop.run(idle(target, given.idle))
        crowd = uvloop.run(streams(target, given.streams, given.tokens))
    rows = [
        [f"idle connections: {given.idle:,}", f"{each / 1e3:.1f} kB each"],
        [f"streams at once: {crowd.most_open:,}", f"{crowd.good:,} whole, {crowd.failed} failed"],
    ]
    print(table(["", ""], rows))
    if crowd.failed:
        print(crowd.problem, file=sys.stderr)
    return 1 if crowd.failed or crowd.tokens != given.streams * given.tokens else 0


if __name__ == "__main__":
    sys.exit(main())

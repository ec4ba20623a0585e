"""Routers that follow workers over the bus in memory, with delay, loss of whole connections, lost events and deaths.

Whatever happens: when it is quiet again, every router knows exactly what every living worker holds, and nothing of a
dead one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from dyno_runtime.bus.memory.network import MemoryTransport, Network
from dyno_runtime.bus.peers import Peers
from dyno_runtime.core.chooser import Chooser
from dyno_runtime.engine.base import KvCleared, KvEvents, KvRemoved, KvStored, Stats
from dyno_runtime.roles.following import Following
from dyno_runtime.roles.telling import Telling
from dyno_runtime.wire.messages import Address, Instance
from tests.sim.virtual import play


class Engine:
    """A cache that changes at random and loses some of its events."""

    def __init__(self, rng: Random) -> None:
        self.on_kv: Callable[[KvEvents], None] | None = None
        self.blocks: dict[int, None] = {}
        self._rng = rng
        self._seq = 0

    def held(self) -> tuple[int, list[int]]:
        return self._seq, list(self.blocks)

    def reserve(self, job: Any) -> None:
        return None

    def stats(self) -> Stats:
        return Stats(running=len(self.blocks) % 5)

    def step(self, *, lossy: bool) -> None:
        rng = self._rng
        if rng.random() < 0.03:
            self.blocks.clear()
            change: Any = KvCleared()
        elif self.blocks and rng.random() < 0.4:
            gone = rng.sample(list(self.blocks), k=min(3, len(self.blocks)))
            for block in gone:
                del self.blocks[block]
            change = KvRemoved(gone)
        else:
            new = [rng.randrange(200) for _ in range(rng.randrange(1, 6))]
            self.blocks |= dict.fromkeys(new)
            change = KvStored(new, 0, [])
        self._seq += 1
        if not (lossy and rng.random() < 0.1):
            assert self.on_kv is not None
            self.on_kv(KvEvents(self._seq, [change]))


class Worker:
    """One worker on the network."""

    def __init__(self, network: Network, number: int, rng: Random) -> None:
        self.address = Address(f"10.0.1.{number}", 7300)
        self.lease = f"{number:016x}"
        self.instance = Instance(
            "decode", self.lease, f"n{number}", "decode-0", self.address, "m", block_size=16
        )
        self.transport = MemoryTransport(network, self.address)
        peers = Peers(self.transport)
        self.engine = Engine(rng)
        around: Any = SimpleNamespace(peers=peers)
        self.telling = Telling(around, self.engine)  # type: ignore[arg-type]
        self.telling.start()
        self.peers = peers


class Router:
    """One router on the network."""

    def __init__(self, network: Network, number: int, rng: Random) -> None:
        self.address = Address(f"10.0.2.{number}", 7200)
        self.transport = MemoryTransport(network, self.address)
        self.peers = Peers(self.transport)
        self.chooser = Chooser(16, "kv", rng)
        self.following: dict[str, Following] = {}

    def knows(self, worker: Worker) -> bool:
        """Exactly what it holds."""
        held = self.chooser.index.held.get(worker.lease)
        return held == len(worker.engine.blocks) and all(
            worker.lease in self.chooser.index.match([block]) for block in worker.engine.blocks
        )

    def tick(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for lease, ask in self.chooser.tick(now_s):
            self.following[lease].ask(ask)


async def eventually(check: Callable[[], bool], routers: list[Router], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            for router in routers:
                router.tick()
            await asyncio.sleep(0.01)


async def routers_follow_workers(seed: int) -> None:
    rng = Random(seed)
    network = Network(Random(seed + 1), delay_s=(0.0, 0.004), loss=0.01 if seed % 2 else 0.0)
    workers = [Worker(network, number, Random(rng.random())) for number in range(1, 4)]
    routers = [Router(network, number, Random(rng.random())) for number in range(1, 3)]
    everybody: list[Worker | Router] = [*workers, *routers]
    for one in everybody:
        await one.transport.listen(one.peers.serve)
    for router in routers:
        for worker in workers:
            router.following[worker.lease] = Following(router.peers, router.chooser, worker.instance)
    for _ in range(150):
        for worker in workers:
            worker.engine.step(lossy=True)
        for router in routers:
            router.tick()
        await asyncio.sleep(rng.uniform(0, 0.003))
    network.loss = 0.0
    dead, *living = workers
    network.crash(dead.address)
    for worker in living:
        worker.engine.step(lossy=False)  # shows what was lost just before it
    try:
        await eventually(
            lambda: all(router.knows(worker) for router in routers for worker in living), routers
        )
        await eventually(
            lambda: all(dead.lease not in router.chooser.index.held for router in routers), routers
        )
        assert {
            router.chooser.loads.workers.keys() == {one.lease for one in living} for router in routers
        } == {True}
        for router in routers:
            router.following.pop(dead.lease).close()
            known = {block for worker in living for block in worker.engine.blocks}
            router.chooser.index.sweep(10_000)
            router.chooser.index.sweep(10_000)
            assert len(router.chooser.index) == len(known)
    finally:
        for router in routers:
            for following in router.following.values():
                following.close()
        for worker in workers:
            worker.telling.stop()
        for one in everybody:
            await one.transport.close()


@pytest.mark.parametrize("first", range(0, 100, 50))
def test_routers_know_what_workers_hold(first: int) -> None:
    play(routers_follow_workers, range(first, first + 50))

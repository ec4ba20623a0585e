"""A head and its ranks over the bus in memory: they form once, and each end takes the whole worker with it."""

from __future__ import annotations

import asyncio
from random import Random

from dyno_runtime.bus.memory.network import MemoryTransport, Network
from dyno_runtime.bus.peers import Peers
from dyno_runtime.roles.gathering import Gathering
from dyno_runtime.roles.joining import Joining
from dyno_runtime.wire.messages import Address

HEAD = Address("10.0.0.1", 7300)


class Head:
    """The head's side, and what it said of its end."""

    def __init__(self, network: Network, nodes: int) -> None:
        self.ends: list[str] = []
        self.transport = MemoryTransport(network, HEAD)
        self.peers = Peers(self.transport)
        self.gathering = Gathering(nodes, self.peers, "engine-1", lost=self.ends.append, changed=lambda: None)

    async def start(self) -> None:
        await self.transport.listen(self.peers.serve)


class Rank:
    """A rank's side; `lives` are all its attempts to be a part."""

    def __init__(self, network: Network, number: int, life: int = 0) -> None:
        self.transport = MemoryTransport(network, Address(f"10.0.{life + 1}.{number}", 7300))
        self.peers = Peers(self.transport)
        self.joining = Joining(number, f"n{number}", HEAD, self.peers, Random(number), lambda: None)
        self.task = asyncio.get_running_loop().create_task(self.joining.join())

    async def crash(self, network: Network) -> None:
        self.task.cancel()
        network.crash(self.transport._own)
        await self.transport.close()


async def scene(nodes: int) -> tuple[Network, Head, list[Rank]]:
    network = Network(Random(7))
    head = Head(network, nodes)
    ranks = [Rank(network, number) for number in range(1, nodes)]
    await asyncio.sleep(0.05)  # they knock at a head that is not there yet
    await head.start()
    return network, head, ranks


async def test_they_form_in_any_order_of_starts() -> None:
    _, head, ranks = await scene(4)
    async with asyncio.timeout(10):
        await asyncio.gather(*(rank.task for rank in ranks), head.gathering.formed.wait())
    assert (head.gathering.problem, head.ends) == (None, [])
    assert all(rank.joining.formed for rank in ranks)
    # Peers shake hands with every rank for KV, and refuse one that bears another name than the head.
    assert {rank.joining.engine_id for rank in ranks} == {"engine-1"}


async def test_until_all_are_here_a_rank_may_come_and_go() -> None:
    network, head, (first, second) = await scene(3)
    await second.crash(network)
    async with asyncio.timeout(10):
        while head.gathering.problem != "waits for rank 2 of 3":
            await asyncio.sleep(0.01)
    assert (first.joining.formed, head.ends) == (False, [])
    Rank(network, 2, life=1)
    async with asyncio.timeout(10):
        await first.task
    assert head.ends == []


async def test_the_end_of_one_rank_ends_the_head_and_with_it_all_others() -> None:
    network, head, (first, second) = await scene(3)
    async with asyncio.timeout(10):
        await asyncio.gather(first.task, second.task)
        await second.crash(network)
        while not head.ends:
            await asyncio.sleep(0.01)
        assert head.ends == [
            "rank 2 is lost, n2: its process ended, or its node; the worker starts anew as one"
        ]
        await head.transport.close()
        assert (await first.joining.lost()).startswith("the head at 10.0.0.1:7300 is gone: ")
    assert not first.joining.formed


async def test_a_head_that_ends_takes_no_rank_for_its_last_moments() -> None:
    network, head, ranks = await scene(2)
    async with asyncio.timeout(10):
        await ranks[0].task
    head.gathering.end()
    late = Rank(network, 1, life=1)
    await asyncio.sleep(0.3)
    assert not late.task.done()
    assert late.joining.problem == "waits for the head at 10.0.0.1:7300: this process is going away"
    assert head.ends == []
    late.task.cancel()


async def test_a_successor_shows_that_the_first_one_is_dead() -> None:
    network, head, ranks = await scene(2)
    async with asyncio.timeout(10):
        await ranks[0].task
        Rank(network, 1, life=1)
        while not head.ends:
            await asyncio.sleep(0.01)
    assert head.ends == ["rank 1 is lost, n1: its successor came; the worker starts anew as one"]

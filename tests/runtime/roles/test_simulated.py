"""The roles over the bus in memory, with seeded delay, loss, partitions and deaths.

Whatever happens: every request ends exactly once, and every count of what is in flight returns to zero.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Literal

import pytest

from dyno_runtime.bus.base import CallFailed, Reply
from dyno_runtime.bus.memory.broker import Broker, MemoryQueue
from dyno_runtime.bus.memory.kv import Kv, MemoryStore
from dyno_runtime.bus.memory.network import MemoryTransport, Network
from dyno_runtime.bus.peers import Peers
from dyno_runtime.bus.registry import Lease, Registry
from dyno_runtime.core.blocks import block_hashes
from dyno_runtime.engine.base import Job
from dyno_runtime.engine.hello import HelloEngine
from dyno_runtime.engine.mock.engine import MockEngine
from dyno_runtime.roles import prefilling
from dyno_runtime.roles.base import Part, Surroundings
from dyno_runtime.roles.decode import Decode
from dyno_runtime.roles.dispatch import Dispatcher
from dyno_runtime.roles.live import Live
from dyno_runtime.roles.members import Members
from dyno_runtime.roles.metering import Metering
from dyno_runtime.roles.names import Names
from dyno_runtime.roles.prefill import Prefill
from dyno_runtime.roles.router import Router
from dyno_runtime.settings import (
    Disagg,
    Endpoint,
    Engine,
    Model,
    ProcessSettings,
    RoleName,
    Routing,
    Services,
)
from dyno_runtime.wire.messages import Address, Ask, Body, Delta, Failure, Generate, Instance, Text
from tests.sim.virtual import play, tell

PARTS: dict[RoleName, type[Part]] = {"router": Router, "decode": Decode, "prefill": Prefill}


MOCK = {"speedup": 20.0}


class Sim:
    """What all processes of one run share."""

    def __init__(self, seed: int, **network: object) -> None:
        self.rng = Random(seed)
        self.network = Network(Random(seed + 1), **network)  # type: ignore[arg-type]
        self.kv = Kv()
        self.broker = Broker(ack_wait_s=0.2)
        self.members: list[Member] = []
        self.kind: Literal["hello", "mock"] = "hello"
        self.prefill_timeout_s = 0.5

    async def add(self, *roles: RoleName) -> Member:
        member = Member(self, len(self.members) + 1, roles)
        self.members.append(member)
        await member.start()
        return member

    async def close(self) -> None:
        for member in self.members:
            await member.close()
        self.kv.close()
        self.broker.close()


class Member:
    """One process; without a role it is a client that dispatches."""

    def __init__(self, sim: Sim, number: int, roles: tuple[RoleName, ...]) -> None:
        self.address = Address(f"10.0.0.{number}", 7300)
        self.lease = f"{number:016x}"
        self.sim = sim
        rng = Random(sim.rng.random())
        settings = ProcessSettings(
            cluster="sim",
            node=f"n{number}",
            unit="u-0",
            roles=roles or ("router",),
            services=Services((), ""),
            stream=Endpoint(self.address.host, self.address.port),
            model=Model("hello"),
            engine=Engine(sim.kind, block_size=16, args=MOCK if sim.kind == "mock" else {}),
            health_path="",
            routing=Routing("round_robin"),
            disagg=Disagg("always", prefill_timeout_s=sim.prefill_timeout_s),
        )
        self.transport = MemoryTransport(sim.network, self.address)
        self.peers = Peers(self.transport)
        engine: Any
        if sim.kind == "mock":
            engine = MockEngine(settings.engine, block_hashes)
        else:
            engine = HelloEngine({"hostname": self.lease, "generate_s": 0.005, "prefill_s": 0.002})
        self.engine = engine
        self.view = Members(self.members_changed)
        self.registry = Registry(MemoryStore(sim.kv), Lease("sim", self.lease, 0.3, 60.0), rng, self.view)
        self.around = Surroundings(
            settings, self.lease, self.address, self.peers, self.view, MemoryQueue(sim.broker, "hello"), rng, engine,
            asyncio.Event(), asyncio.Event(), asyncio.Event(), Live(settings), Names(),
            Metering(settings, lambda: None), MemoryStore(sim.kv),
        )  # fmt: skip
        self.around.engine_ready.set()
        self.around.queue_clear.set()
        self.parts = [PARTS[role](self.around) for role in roles]
        self.dispatcher = Dispatcher(self.around)
        self.tasks: list[asyncio.Task[None]] = []

    def members_changed(self) -> None:
        for part in self.parts:
            part.view_changed()

    async def start(self) -> None:
        await self.transport.listen(self.peers.serve)
        await self.engine.load()
        for part in self.parts:
            await part.start()
            self.tasks.append(asyncio.create_task(part.run()))
        self.announce()
        self.registry.start()

    def announce(self) -> None:
        terms = getattr(self.engine, "terms", {})
        self.registry.announce(
            *(
                Instance(
                    *(p.name, self.lease, f"n{self.lease}", "u-0", self.address, "hello"),
                    block_size=16,
                    terms=terms,
                )
                for p in self.parts
            )
        )

    def crash(self) -> None:
        """Gone without a goodbye: its connections break and its lease runs out."""
        self.sim.network.crash(self.address)
        for task in [*self.tasks, *self.registry.tasks]:
            task.cancel()

    @property
    def in_flight(self) -> int:
        stats = self.engine.stats()
        return sum(part.in_flight for part in self.parts) + int(stats.running + stats.waiting)

    async def close(self) -> None:
        for part in self.parts:
            part.drain()
            await part.stop()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.engine.close()
        await self.registry.close()
        await self.transport.close()


class Client:
    """One request; counts its ends."""

    def __init__(self) -> None:
        self.text = ""
        self.ends: list[Failure | None] = []
        self.done = asyncio.Event()

    def item(self, body: Body) -> None:
        assert isinstance(body, Text)
        assert not self.ends
        self.text += body.text

    def end(self, failure: Failure | None) -> None:
        self.ends.append(failure)
        self.done.set()


async def settled(check, seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.005)


async def cluster(sim: Sim) -> tuple[Member, list[Member]]:
    front = await sim.add()
    workers = [await sim.add("decode") for _ in range(3)]
    await sim.add("router")
    await sim.add("prefill")
    await sim.add("prefill")
    await settled(lambda: front.view.view.counts() == {"decode": 3, "prefill": 2, "router": 1})
    return front, workers


async def ask(sim: Sim, front: Member, count: int) -> list[tuple[str, Client]]:
    clients = []
    for number in range(count):
        client, prompt = Client(), f"prompt {number}"
        front.dispatcher.open_ask(Ask(f"r-{number}", prompt), client)
        clients.append((prompt, client))
        await asyncio.sleep(sim.rng.uniform(0, 0.01))
    return clients


async def a_worker_dies(seed: int) -> list[Any]:
    sim = Sim(seed, delay_s=(0.0, 0.005))
    front, workers = await cluster(sim)
    asking = asyncio.ensure_future(ask(sim, front, 60))
    await asyncio.sleep(sim.rng.uniform(0.05, 0.2))
    workers[sim.rng.randrange(3)].crash()
    clients = await asking
    for prompt, client in clients:
        await settled(client.done.is_set)
        assert client.ends == [None]
        assert client.text.startswith(f"{prompt}_GeneratedBy_")
    await settled(
        lambda: not any(one.in_flight for one in sim.members if one.address in sim.network.listening)
    )
    await sim.close()
    return [asyncio.get_running_loop().time(), *(client.text for _, client in clients)]


@pytest.mark.parametrize("first", range(0, 60, 30))
def test_a_worker_dies_in_the_middle_and_no_request_fails(first: int) -> None:
    play(a_worker_dies, range(first, first + 30))


def test_a_seed_is_played_the_same_way_twice() -> None:
    assert tell(a_worker_dies, 7) == tell(a_worker_dies, 7) != tell(a_worker_dies, 8)


async def connections_break_all_the_time(seed: int) -> None:
    sim = Sim(seed, delay_s=(0.0, 0.003), loss=0.02)
    front, _ = await cluster(sim)
    clients = await ask(sim, front, 80)
    for _, client in clients:
        await settled(client.done.is_set)
    await settled(lambda: not any(one.in_flight for one in sim.members))
    assert {len(client.ends) for _, client in clients} == {1}
    whole = [client for prompt, client in clients if client.ends == [None]]
    assert len(whole) > 30
    for prompt, client in clients:
        if client.ends == [None]:
            assert client.text.startswith(f"{prompt}_GeneratedBy_")
        else:
            assert client.ends[0] is not None
            assert client.ends[0].code in ("peer_lost", "no_worker")
    await sim.close()


@pytest.mark.parametrize("first", range(0, 60, 30))
def test_connections_that_break_all_the_time_leave_nothing_behind(first: int) -> None:
    play(connections_break_all_the_time, range(first, first + 30))


async def test_callers_that_leave_free_everything():
    sim = Sim(3, delay_s=(0.0, 0.002))
    front, workers = await cluster(sim)
    for number in range(50):
        journey = front.dispatcher.open_ask(Ask(f"r-{number}", "x"), Client())
        assert journey is not None
        await asyncio.sleep(sim.rng.uniform(0, 0.01))
        journey.cancel()
    await settled(lambda: not any(one.in_flight for one in sim.members))
    assert sum(one.engine.stats().running for one in workers) == 0
    await sim.close()


async def test_a_queue_that_is_away_means_local_prefill_at_once():
    sim = Sim(4)
    front, _ = await cluster(sim)
    sim.broker.down = True
    clients = await ask(sim, front, 10)
    for _, client in clients:
        await settled(client.done.is_set, 1.0)
        assert client.ends == [None]
    await sim.close()


async def test_a_worker_that_dies_after_its_last_token_has_answered():
    sim = Sim(5)
    front = await sim.add()
    worker = await sim.add("decode")
    await settled(lambda: front.view.view.counts() == {"decode": 1})

    def last_words(order: Generate, reply: Reply) -> None:
        reply.send(Delta(list(b"whole"), "stop", "local"))
        asyncio.get_running_loop().call_later(0.01, worker.crash)

    worker.peers.on(Generate, last_words)
    client = Client()
    front.dispatcher.open_ask(Ask("r", "x"), client)
    await settled(client.done.is_set)
    assert (client.text, client.ends) == ("whole", [None])
    await sim.close()


async def waiting_order(sim: Sim, worker: Member) -> asyncio.Task[tuple[dict[str, Any] | None, str]]:
    """A prompt at a decode worker whose queue takes it while nobody answers."""
    part = worker.parts[0]
    assert isinstance(part, Decode)
    order = Generate("r", list(b"a long prompt"))
    task = asyncio.create_task(part._prefilling.prefill(order))
    await settled(lambda: sim.broker.newest == 1)
    return task


async def test_a_wait_for_remote_prefill_ends_when_the_last_prefill_worker_is_gone(monkeypatch):
    monkeypatch.setattr(prefilling, "QUEUE_LOST_S", 0.05)
    sim = Sim(6)
    sim.prefill_timeout_s = 60.0
    worker, helper = await sim.add("decode"), await sim.add("prefill")
    await settled(lambda: worker.view.view.counts() == {"decode": 1, "prefill": 1})

    async def never(job: Job) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(helper.engine, "prefill", never)
    task = await waiting_order(sim, worker)
    helper.crash()
    async with asyncio.timeout(10.0):
        assert await task == (None, "local")
    await sim.close()


async def test_a_prefill_worker_that_cannot_reach_the_decode_worker_gives_the_task_to_one_that_can(
    monkeypatch,
):
    sim = Sim(7)
    sim.prefill_timeout_s = 60.0
    worker, cut_off = await sim.add("decode"), await sim.add("prefill")
    await settled(lambda: "decode" in cut_off.view.view.counts() and "prefill" in worker.view.view.counts())
    asked = asyncio.Event()

    async def nobody(*_: object) -> None:
        asked.set()
        raise CallFailed(Failure("peer_lost", "no route"))

    monkeypatch.setattr(cut_off.peers, "ask", nobody)
    part = cut_off.parts[0]
    setattr(part, "problem", "NATS has no JetStream")  # noqa: B010 - or mypy believes it for good
    task = await waiting_order(sim, worker)
    await asked.wait()
    able = await sim.add("prefill")
    async with asyncio.timeout(10.0):
        assert (await task)[1] == f"remote:{able.around.place}"
    assert part.problem is None
    await sim.close()

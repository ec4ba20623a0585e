"""What every transport keeps, asked of the real one over loopback and of the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypeVar

import pytest

from dyno_runtime.bus.base import CallFailed, Refused, Reply
from dyno_runtime.bus.memory.network import MemoryTransport, Network
from dyno_runtime.bus.peers import Peers
from dyno_runtime.bus.stream import StreamTransport
from dyno_runtime.wire.messages import Address, Ask, Body, Choose, Chosen, Failure, Text
from tests.servers import free_port

T = TypeVar("T")


class Collect:
    """A sink that remembers; `over` is done at the end."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.ends: list[Failure | None] = []
        self.over = asyncio.Event()

    def item(self, body: Body) -> None:
        assert not self.ends, "an item after the end"
        assert isinstance(body, Text)
        self.items.append(body.text)

    def end(self, failure: Failure | None) -> None:
        self.ends.append(failure)
        self.over.set()


class World:
    """Two processes; `crash` ends the second without a goodbye."""

    def __init__(
        self, one: Any, other: Any, crash: Callable[[], Awaitable[None]], addresses: list[Address]
    ) -> None:
        self.one, self.other = Peers(one), Peers(other)
        self.transports = (one, other)
        self.addresses = addresses
        self.crash = crash


@asynccontextmanager
async def stream_world() -> AsyncIterator[World]:
    addresses = [Address("127.0.0.1", free_port()) for _ in range(2)]
    one, other = (StreamTransport("hello", f"{n:016x}", address) for n, address in enumerate(addresses))

    async def crash() -> None:
        for connection in list(other._connections):
            assert connection._tcp is not None
            connection._tcp.abort()
        await other.stop_listening()

    world = World(one, other, crash, addresses)
    await one.listen(world.one.serve)
    await other.listen(world.other.serve)
    try:
        yield world
    finally:
        await one.close()
        await other.close()


@asynccontextmanager
async def memory_world() -> AsyncIterator[World]:
    network = Network(Random(3), delay_s=(0.0, 0.002))
    addresses = [Address("10.0.0.1", 1), Address("10.0.0.2", 1)]
    one, other = (MemoryTransport(network, address) for address in addresses)

    async def crash() -> None:
        network.crash(addresses[1])

    world = World(one, other, crash, addresses)
    await one.listen(world.one.serve)
    await other.listen(world.other.serve)
    try:
        yield world
    finally:
        await one.close()
        await other.close()


worlds = pytest.mark.parametrize("world", [stream_world, memory_world])
ASK = Ask("r-1", "hello")


async def within(awaitable: Awaitable[T], seconds: float = 5.0) -> T:
    async with asyncio.timeout(seconds):
        return await awaitable


def serve_pieces(peers: Peers, pieces: list[str], failure: Failure | None = None) -> None:
    def handler(ask: Ask, reply: Reply) -> None:
        for piece in pieces:
            reply.send(Text(piece))
        reply.end(failure)
        reply.send(Text("after the end"))
        reply.end()

    peers.on(Ask, handler)


def serve_choose(peers: Peers, name: str) -> None:
    def handler(choose: Choose, reply: Reply) -> None:
        reply.send(Chosen(name))
        reply.end()

    peers.on(Choose, handler)


@worlds
async def test_items_arrive_in_order_and_one_end(world):
    async with world() as both:
        pieces = [str(number) for number in range(500)]
        serve_pieces(both.other, pieces)
        sink = Collect()
        both.one.open(both.addresses[1], ASK, sink)
        await within(sink.over.wait())
        assert (sink.items, sink.ends) == (pieces, [None])


@worlds
async def test_calls_in_both_directions_do_not_meet(world):
    async with world() as both:
        for peers, name in ((both.one, "one"), (both.other, "other")):
            serve_choose(peers, name)
        for _ in range(3):
            there = await both.one.ask(both.addresses[1], Choose("x"), 5.0)
            back = await both.other.ask(both.addresses[0], Choose("x"), 5.0)
            assert (there, back) == (Chosen("other"), Chosen("one"))


@worlds
async def test_a_call_to_oneself_stays_inside(world):
    async with world() as both:
        serve_pieces(both.one, ["inside"])
        sink = Collect()
        both.one.open(both.addresses[0], ASK, sink)
        assert sink.items == [], "open never calls back by itself"
        await within(sink.over.wait())
        assert (sink.items, sink.ends) == (["inside"], [None])


@worlds
async def test_a_failure_travels_whole(world):
    async with world() as both:
        serve_pieces(both.other, [], Failure("overloaded", "too much"))
        with pytest.raises(CallFailed) as caught:
            await both.one.ask(both.addresses[1], ASK, 5.0)
        assert caught.value.failure == Failure("overloaded", "too much")


@worlds
async def test_what_is_not_served_is_said(world):
    async with world() as both:
        with pytest.raises(CallFailed) as caught:
            await both.one.ask(both.addresses[1], ASK, 5.0)
        assert caught.value.failure == Failure("not_here", "Ask is not served here")


@worlds
async def test_a_handler_that_breaks_fails_its_own_call_only(world, caplog):
    async with world() as both:

        def handler(ask: Ask, reply: Reply) -> None:
            if ask.prompt == "break":
                raise RuntimeError("broken")
            reply.end()

        both.other.on(Ask, handler)
        with pytest.raises(CallFailed, match=r"^serving Ask failed; the log says why$"):
            await both.one.ask(both.addresses[1], Ask("r", "break"), 5.0)
        assert await both.one.ask(both.addresses[1], ASK, 5.0) is None
        assert "broken" in caplog.text


@worlds
async def test_cancel_reaches_the_other_end_and_silences_this_one(world):
    async with world() as both:
        started, cancelled = asyncio.Event(), asyncio.Event()

        def handler(ask: Ask, reply: Reply) -> None:
            def left() -> None:
                cancelled.set()
                reply.send(Text("late"))
                reply.end()

            reply.on_cancel = left
            started.set()

        both.other.on(Ask, handler)
        sink = Collect()
        call = both.one.open(both.addresses[1], ASK, sink)
        await within(started.wait())
        call.cancel()
        await within(cancelled.wait())
        await asyncio.sleep(0.02)
        assert (sink.items, sink.ends) == ([], [])


@worlds
async def test_a_lost_peer_fails_its_calls_and_its_callers_are_cancelled(world):
    async with world() as both:
        started, cancelled = asyncio.Event(), asyncio.Event()

        def handler(ask: Ask, reply: Reply) -> None:
            reply.on_cancel = cancelled.set
            reply.send(Text("first"))
            started.set()

        both.other.on(Ask, handler)
        sinks = [Collect() for _ in range(10)]
        for sink in sinks:
            both.one.open(both.addresses[1], ASK, sink)
        await within(started.wait())
        await asyncio.sleep(0.02)
        await both.crash()
        for sink in sinks:
            await within(sink.over.wait())
        await within(cancelled.wait())
        assert {failure.code for sink in sinks for failure in sink.ends if failure} == {"peer_lost"}
        assert [len(sink.ends) for sink in sinks] == [1] * 10


@worlds
async def test_nobody_listens(world):
    async with world() as both:
        await both.crash()
        with pytest.raises(CallFailed) as caught:
            await both.one.ask(both.addresses[1], ASK, 5.0)
        assert caught.value.failure.code == "peer_lost"
        assert caught.value.failure.message.startswith(f"no connection to {both.addresses[1]}")


@worlds
async def test_no_answer_in_time_cancels_the_call(world):
    async with world() as both:
        cancelled = asyncio.Event()
        both.other.on(Ask, lambda ask, reply: setattr(reply, "on_cancel", cancelled.set))
        with pytest.raises(CallFailed, match=rf"^{both.addresses[1]} did not answer within 0.1 s$"):
            await both.one.ask(both.addresses[1], ASK, 0.1)
        await within(cancelled.wait())


@worlds
async def test_a_message_over_the_limit_fails_its_call_and_the_rest_goes_on(world, monkeypatch):
    monkeypatch.setattr("dyno_runtime.wire.codec.MAX_FRAME_BYTES", 1000)
    async with world() as both:
        serve_pieces(both.other, ["ok"])
        big, small = Collect(), Collect()
        both.one.open(both.addresses[1], Ask("r", "x" * 2000), big)
        both.one.open(both.addresses[1], ASK, small)
        await within(big.over.wait())
        await within(small.over.wait())
        assert big.ends[0] is not None
        assert big.ends[0].code == "too_large"
        assert small.items == ["ok"]


@worlds
async def test_a_taken_port_is_refused_by_name(world):
    async with world() as both:
        kind = type(both.transports[0])
        address = both.addresses[1]
        again = (
            StreamTransport("hello", "ff", address)
            if kind is StreamTransport
            else MemoryTransport(both.transports[0]._network, address)
        )
        with pytest.raises(Refused, match=rf"^cannot listen for peers on {address}: address already in use$"):
            await again.listen(both.one.serve)
        await both.transports[0].close()

"""What only the real transport can show: strangers, silence, one write in a turn, bounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from dyno_runtime.bus import connection, stream
from dyno_runtime.bus.base import Reply
from dyno_runtime.bus.peers import Peers
from dyno_runtime.bus.stream import StreamTransport
from dyno_runtime.wire.codec import frame
from dyno_runtime.wire.envelopes import Envelope, Hello, Open
from dyno_runtime.wire.messages import Address, Ask, Body, Text
from tests.runtime.bus.test_transport_contract import ASK, Collect, serve_pieces, stream_world, within
from tests.servers import free_port


def messages(sink: Collect) -> list[str]:
    """What its calls failed with."""
    return [failure.message for failure in sink.ends if failure is not None]


async def closed_after(address: Address, data: bytes) -> bytes:
    """What a stranger reads until it is cut off."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(data)
    got = b""
    try:
        got = await within(reader.read())
    except ConnectionResetError:
        pass
    writer.close()
    return got


async def test_a_name_that_no_host_can_have_fails_the_call():
    async with stream_world() as both:
        sink = Collect()
        nowhere = Address("a" * 64 + ".example", 7300)
        both.one.open(nowhere, ASK, sink)
        await within(sink.over.wait())
        assert messages(sink) == [f"no connection to {nowhere}: this is no name of a host"]


async def test_strangers_are_closed_logged_once_and_disturb_nobody(caplog):
    caplog.set_level(logging.WARNING)
    async with stream_world() as both:
        serve_pieces(both.other, ["ok"])
        sink = Collect()
        both.one.open(both.addresses[1], ASK, sink)
        await within(sink.over.wait())
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01" * 20, b"\0\0\0\x05\x01zzzz"):
            await closed_after(both.addresses[1], garbage)
        assert await both.one.ask(both.addresses[1], ASK, 5.0) == Text("ok")
        assert [record.getMessage() for record in caplog.records] == [
            "closed a connection from 127.0.0.1: a frame of 1195725856 bytes; the limit is 16777216; "
            "more from there will not be logged"
        ]


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (Open(1, ASK), "the first message was not a greeting"),
        (Hello("other", "ff", Address("10.0.0.9", 1)), "a process of cluster other; this is cluster hello"),
    ],
)
async def test_a_peer_must_greet_and_be_of_this_cluster(first, reason, caplog):
    async with stream_world() as both:
        await closed_after(both.addresses[1], frame([first]))
        assert reason in caplog.text


async def test_a_connection_that_says_nothing_is_closed(monkeypatch, caplog):
    monkeypatch.setattr(stream, "BEAT_S", 0.02)
    monkeypatch.setattr(stream, "GREETING_S", 0.05)
    async with stream_world() as both:
        await closed_after(both.addresses[1], b"")
        assert "no greeting within 0 s" in caplog.text


async def test_a_peer_that_greets_and_freezes_is_lost(monkeypatch):
    monkeypatch.setattr(stream, "BEAT_S", 0.02)
    monkeypatch.setattr(stream, "SILENT_S", 0.2)
    address = Address("127.0.0.1", free_port())

    async def freeze(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame([Hello("hello", "ff", address)]))
        try:
            while await reader.read(4096):
                pass
        except ConnectionResetError:
            pass
        writer.close()

    server = await asyncio.start_server(freeze, address.host, address.port)
    async with stream_world() as both:
        sink = Collect()
        both.one.open(address, ASK, sink)
        await within(sink.over.wait())
        assert messages(sink) == [f"{address} has been silent for 0 s"]
    server.close()


async def test_living_but_idle_peers_are_kept(monkeypatch):
    monkeypatch.setattr(stream, "BEAT_S", 0.02)
    monkeypatch.setattr(stream, "SILENT_S", 0.2)
    async with stream_world() as both:
        serve_pieces(both.other, ["ok"])
        await both.one.ask(both.addresses[1], ASK, 5.0)
        before = set(both.transports[0]._connections)
        await asyncio.sleep(0.5)
        assert set(both.transports[0]._connections) == before != set()


async def test_one_pair_of_processes_has_one_connection():
    async with stream_world() as both:
        serve_pieces(both.one, ["1"])
        serve_pieces(both.other, ["2"])
        for _ in range(3):
            await both.one.ask(both.addresses[1], ASK, 5.0)
            await both.other.ask(both.addresses[0], ASK, 5.0)
        assert [len(one._connections) for one in both.transports] == [1, 1]


async def test_all_of_one_turn_is_one_write(monkeypatch):
    async with stream_world() as both:
        serve_pieces(both.other, ["x"] * 100)
        await both.one.ask(both.addresses[1], ASK, 5.0)
        frames: list[Sequence[Envelope]] = []

        def recorded(envelopes: Sequence[Envelope]) -> bytes:
            frames.append(envelopes)
            return frame(envelopes)

        monkeypatch.setattr(connection, "frame", recorded)
        sinks = [Collect() for _ in range(10)]
        for sink in sinks:
            both.one.open(both.addresses[1], ASK, sink)
        for sink in sinks:
            await within(sink.over.wait())
        # One frame with ten calls, one with their thousand items and ten ends.
        assert [len(one) for one in frames] == [10, 1010]


@pytest.mark.parametrize(
    ("bound", "value", "what"),
    [("MAX_OUTBOX", 200, "200 messages wait"), ("MAX_OUTBOX_BYTES", 500_000, "over 500000 bytes wait")],
)
async def test_a_peer_that_does_not_read_is_cut_off_at_the_bound(monkeypatch, bound, value, what):
    monkeypatch.setattr(connection, bound, value)
    monkeypatch.setattr(connection, "HIGH_WATER_BYTES", 1000)
    address = Address("127.0.0.1", free_port())
    silence = asyncio.Event()

    async def never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame([Hello("hello", "ff", address)]))
        await silence.wait()
        writer.close()

    server = await asyncio.start_server(never_read, address.host, address.port, limit=1)
    async with stream_world() as both:
        sink = Collect()
        both.one.open(address, ASK, sink)
        for _ in range(2000):
            both.one.open(address, Ask("r", "x" * 20_000), Collect())
            if sink.ends:
                break
            await asyncio.sleep(0)
        await within(sink.over.wait())
        assert messages(sink) == [f"{address} does not read; {what} for it"]
    silence.set()
    server.close()


async def test_too_many_calls_are_refused_not_queued(monkeypatch):
    monkeypatch.setattr(connection, "MAX_CALLS", 3)
    async with stream_world() as both:
        both.other.on(Ask, lambda ask, reply: None)
        sinks = [Collect() for _ in range(4)]
        for sink in sinks:
            both.one.open(both.addresses[1], ASK, sink)
        await within(sinks[3].over.wait())
        assert messages(sinks[3]) == [f"3 calls to {both.addresses[1]} are open"]
        assert sinks[0].ends == []


async def test_close_ends_what_is_under_way():
    address = Address("127.0.0.1", free_port())
    transport = StreamTransport("hello", "ff", address)
    peers = Peers(transport)
    await transport.listen(peers.serve)
    sink = Collect()
    peers.open(Address("127.0.0.1", free_port()), ASK, sink)
    await transport.close()
    await within(sink.over.wait())
    assert sink.ends[0] is not None
    assert sink.ends[0].code == "peer_lost"


async def test_a_receiver_that_raises_loses_its_own_call_and_no_other(caplog):
    class Broken(Collect):
        def item(self, body: Body) -> None:
            raise RuntimeError("a bug")

    async with stream_world() as both:
        replies: list[Reply] = []
        left = asyncio.Event()

        def serve(ask: Ask, reply: Reply) -> None:
            replies.append(reply)
            if ask.request == "broken":
                reply.on_cancel = left.set
                reply.send(Text("x"))

        both.other.on(Ask, serve)
        good = Collect()
        both.one.open(both.addresses[1], Ask("good", "x"), good)
        both.one.open(both.addresses[1], Ask("broken", "x"), Broken())
        await within(left.wait())
        replies[0].send(Text("y"))
        replies[0].end()
        await within(good.over.wait())
        assert (good.items, good.ends) == (["y"], [None])
    assert "is dropped: its receiver failed" in caplog.text

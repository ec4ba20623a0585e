"""One TCP connection to one peer, whichever side dialled it: framing, calls in both directions, bounds.

In: bytes from the peer, and calls from this process. Out: frames, at most one write in each turn of the event loop.
Deltas of that turn, of all calls, are one `Step`; behind a peer that does not read those of one call become one.
When it ends, for whatever reason, every call over it ends as `peer_lost`, once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Protocol, cast

from dyno_runtime.bus.base import Serve, Sink
from dyno_runtime.wire.codec import BadFrame, FrameTooLarge, Unframer, frame
from dyno_runtime.wire.envelopes import Cancel, End, Envelope, Hello, Item, Open, Step
from dyno_runtime.wire.messages import Address, Body, Delta, Failure

log = logging.getLogger("dyno.stream")

MAX_OUTBOX = 65_536  # envelopes that wait for a peer which does not read
MAX_OUTBOX_BYTES = 64 * 1024 * 1024
MAX_CALLS = 16_384  # in each direction
MERGE_ABOVE = 4096  # deltas that wait for a peer which does not read
HIGH_WATER_BYTES = 1024 * 1024


class Owner(Protocol):
    """The transport, as its connections see it."""

    hello: Hello
    serve: Serve

    def made(self, connection: Connection) -> None:
        """TCP is connected; the peer may still be anybody."""

    def greeted(self, connection: Connection, hello: Hello) -> None:
        """The peer said who it is."""

    def lost(self, connection: Connection, reason: str, *, strange: bool) -> None:
        """The connection is over. `strange`: it was never a peer of ours."""


def joined(one: Delta, other: Delta) -> Delta:
    """Two deltas of a call, the second one without a `prefill` or `cached_tokens` of its own, as one."""
    logprobs = None
    if one.logprobs is not None or other.logprobs is not None:
        logprobs = [*(one.logprobs or ()), *(other.logprobs or ())]
    return Delta(one.tokens + other.tokens, other.finish, one.prefill, one.cached_tokens, logprobs)


def _size_bytes(envelope: Envelope) -> int:
    """What it will take; it is encoded for that, which only a peer that does not read costs us."""
    try:
        return len(frame([envelope]))
    except FrameTooLarge:
        return 0  # it is never sent


class StreamReply:
    """The serving end of a call that came over a connection."""

    __slots__ = ("_call", "_connection", "on_cancel")

    def __init__(self, connection: Connection, call: int) -> None:
        self.on_cancel: Callable[[], None] | None = None
        self._connection: Connection | None = connection
        self._call = call

    def send(self, body: Body) -> None:
        connection = self._connection
        if connection is None:
            return
        if body.__class__ is not Delta:
            connection.send(Item(self._call, body))
            return
        if body.finish is not None:
            self._connection = None
            connection.served(self._call)
        connection.step(self._call, body)

    def end(self, failure: Failure | None = None) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.served(self._call)
            connection.send(End(self._call, failure))

    def cancelled(self) -> None:
        """The caller left, or the connection did."""
        self._connection = None
        if self.on_cancel is not None:
            self.on_cancel()


class StreamCall:
    """The opening end of a call."""

    __slots__ = ("_call", "_connection")

    def __init__(self, connection: Connection, call: int) -> None:
        self._connection = connection
        self._call = call

    def cancel(self) -> None:
        self._connection.forget(self._call)


class Connection(asyncio.Protocol):
    """See the module. `peer` is where the other side listens, known before dialling or after its `Hello`."""

    def __init__(self, owner: Owner, peer: Address | None) -> None:
        self.peer = peer
        self.remote_host = "?"
        self.greeted = False
        self.heard_s = self.spoke_s = self.since_s = asyncio.get_running_loop().time()
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._unframer = Unframer()
        self._tcp: asyncio.Transport | None = None
        self._outbox: list[Envelope] = []
        self._outbox_bytes = 0  # of what came while nothing could be written
        self._step_calls: list[int] = []
        self._step_deltas: list[Delta] = []
        self._merge_above = MERGE_ABOVE
        self._flushing = False
        self._paused = False
        self._closed: str | None = None
        self._calls: dict[int, Sink] = {}
        self._serving: dict[int, StreamReply] = {}
        self._next_call = 0

    # ---- calls that this side opens

    def open(self, body: Body, sink: Sink) -> StreamCall:
        """Send a call. A connection that is lost or full fails it in the next turn of the loop."""
        self._next_call += 1
        call = self._next_call
        if self._closed is not None:
            self._loop.call_soon(sink.end, Failure("peer_lost", self._closed))
        elif len(self._calls) >= MAX_CALLS:
            self._loop.call_soon(
                sink.end, Failure("overloaded", f"{MAX_CALLS} calls to {self.peer} are open")
            )
        else:
            self._calls[call] = sink
            self.send(Open(call, body))
        return StreamCall(self, call)

    def forget(self, call: int) -> None:
        """The sink of this call wants no more."""
        if self._calls.pop(call, None) is not None and self._closed is None:
            self.send(Cancel(call))

    def served(self, call: int) -> None:
        """The reply to this call is complete."""
        self._serving.pop(call, None)

    @property
    def busy(self) -> bool:
        """Calls are open in either direction."""
        return bool(self._calls or self._serving)

    # ---- writing

    def send(self, envelope: Envelope) -> None:
        """Queue an envelope; all of one turn of the loop leave in one write."""
        if self._closed is not None:
            return
        self._outbox.append(envelope)
        if self._paused or self._tcp is None:
            self._outbox_bytes += _size_bytes(envelope)
        if self._outbox_bytes > MAX_OUTBOX_BYTES:
            self.lose(f"{self.peer} does not read; over {MAX_OUTBOX_BYTES} bytes wait for it")
        elif len(self._outbox) > MAX_OUTBOX:
            self.lose(f"{self.peer} does not read; {MAX_OUTBOX} messages wait for it")
        elif not self._flushing and self._tcp is not None and not self._paused:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def step(self, call: int, delta: Delta) -> None:
        """Queue a delta; it may overtake nothing of its own call, for that has nothing else but an end."""
        if self._closed is not None:
            return
        self._step_calls.append(call)
        self._step_deltas.append(delta)
        if not self._flushing and self._tcp is not None:
            if not self._paused:
                self._flushing = True
                self._loop.call_soon(self._flush)
            elif len(self._step_calls) > self._merge_above:
                self._merge()

    def _merge(self) -> None:
        """The peer does not read: at most one delta a call waits for it, however long."""
        merged: dict[int, Delta] = {}
        for call, delta in zip(self._step_calls, self._step_deltas, strict=True):
            earlier = merged.get(call)
            merged[call] = delta if earlier is None else joined(earlier, delta)
        self._step_calls, self._step_deltas = list(merged), list(merged.values())
        self._merge_above = 2 * len(merged) + MERGE_ABOVE

    def _flush(self) -> None:
        self._flushing = False
        if self._closed is not None or self._paused or self._tcp is None:
            return
        outbox, self._outbox, self._outbox_bytes = self._outbox, [], 0
        if self._step_calls:
            # First: an end of one of these calls is in the outbox.
            outbox.insert(0, Step(self._step_calls, self._step_deltas))
            self._step_calls, self._step_deltas = [], []
            self._merge_above = MERGE_ABOVE
        elif not outbox:
            return
        self.spoke_s = self._loop.time()
        try:
            self._tcp.write(frame(outbox))
        except FrameTooLarge:
            for envelope in outbox:
                self._write_alone(envelope)

    def _write_alone(self, envelope: Envelope) -> None:
        assert self._tcp is not None
        try:
            self._tcp.write(frame([envelope]))
        except FrameTooLarge as error:
            failure = Failure("too_large", str(error))
            if isinstance(envelope, Open):
                sink = self._calls.pop(envelope.call, None)
                if sink is not None:
                    sink.end(failure)
            elif isinstance(envelope, Item):
                reply = self._serving.pop(envelope.call, None)
                if reply is not None:
                    reply.cancelled()
                self._tcp.write(frame([End(envelope.call, failure)]))
            elif isinstance(envelope, Step):
                for call, delta in zip(envelope.calls, envelope.deltas, strict=True):
                    self._write_alone(Item(call, delta))

    # ---- reading

    def data_received(self, data: bytes) -> None:
        self.heard_s = self._loop.time()
        try:
            envelopes = self._unframer.feed(data)
            for envelope in envelopes:
                if self._closed is not None:
                    return
                if not self.greeted:
                    self._greet(envelope)
                elif type(envelope) is Step:
                    self._take_step(envelope)
                elif type(envelope) is Open:
                    self._serve(envelope.call, envelope.body)
                else:
                    self._take(envelope)
        except BadFrame as error:
            self.lose(str(error), strange=not self.greeted)

    def _take_step(self, step: Step) -> None:
        sinks = self._calls
        for call, delta in zip(step.calls, step.deltas, strict=False):
            sink = sinks.get(call)
            if sink is None:
                continue
            try:
                sink.item(delta)
                if delta.finish is not None and sinks.pop(call, None) is not None:
                    sink.end(None)
            except Exception:
                self._broken(call)

    def _broken(self, call: int) -> None:
        """The receiver of one call raised: that call is over, the others of this connection are not."""
        log.exception("a call to %s is dropped: its receiver failed", self.peer)
        self.forget(call)

    def _take(self, envelope: Envelope) -> None:
        try:
            self._deliver(envelope)
        except Exception:
            if not isinstance(envelope, Item | End):
                raise
            self._broken(envelope.call)

    def _deliver(self, envelope: Envelope) -> None:
        match envelope:
            case Item(call, body):
                sink = self._calls.get(call)
                if sink is not None:
                    sink.item(body)
                    if isinstance(body, Delta) and body.finish is not None:
                        self._calls.pop(call, None)
                        sink.end(None)
            case End(call, failure):
                sink = self._calls.pop(call, None)
                if sink is not None:
                    sink.end(failure)
            case Cancel(call):
                reply = self._serving.pop(call, None)
                if reply is not None:
                    reply.cancelled()
            case _:
                pass  # Ping, and a second Hello, only show that the peer lives

    def _greet(self, envelope: Envelope) -> None:
        ours = self._owner.hello.cluster
        if not isinstance(envelope, Hello):
            raise BadFrame("the first message was not a greeting")
        if envelope.cluster != ours:
            raise BadFrame(f"a process of cluster {envelope.cluster}; this is cluster {ours}")
        self.greeted = True
        if self.peer is None:
            self.peer = envelope.stream
        self._owner.greeted(self, envelope)

    def _serve(self, call: int, body: Body) -> None:
        reply = StreamReply(self, call)
        if call in self._serving or len(self._serving) >= MAX_CALLS:
            self.send(End(call, Failure("overloaded", f"{MAX_CALLS} calls are open")))
            return
        self._serving[call] = reply
        self._owner.serve(body, reply)

    # ---- beginning and end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tcp = cast(asyncio.Transport, transport)
        tcp.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        sock = tcp.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tcp = tcp
        if self._closed is not None:
            tcp.abort()
            return
        address = tcp.get_extra_info("peername")
        self.remote_host = str(address[0]) if address else "?"
        self._owner.made(self)
        # Before anything that was queued while the connection was being made.
        self._outbox.insert(0, self._owner.hello)
        self._flush()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose(f"{self.peer or 'a stranger'} closed the connection")

    def lose(self, reason: str, *, strange: bool = False) -> None:
        """End the connection and every call over it; a second call changes nothing."""
        if self._closed is not None:
            return
        self._closed = reason
        self._outbox.clear()
        self._step_calls, self._step_deltas = [], []
        if self._tcp is not None:
            self._tcp.abort()
        self._owner.lost(self, reason, strange=strange)
        calls, self._calls = self._calls, {}
        serving, self._serving = self._serving, {}
        for sink in calls.values():
            sink.end(Failure("peer_lost", reason))
        for reply in serving.values():
            reply.cancelled()

    def shut(self) -> None:
        """Send what is queued, then end."""
        self._paused = False
        self._flush()
        tcp, self._tcp = self._tcp, None
        if tcp is not None:
            tcp.close()
        self.lose("this process ends")

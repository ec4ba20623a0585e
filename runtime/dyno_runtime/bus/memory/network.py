"""`Transport` in one process, with seeded delay, loss and partition.

In: a `Network` that all processes of a simulation share. Out: a `MemoryTransport` for each of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from dyno_runtime.bus.base import Refused, Serve, Sink
from dyno_runtime.bus.calls import LocalReply, open_local
from dyno_runtime.wire.codec import FrameTooLarge, Unframer, frame
from dyno_runtime.wire.envelopes import Open
from dyno_runtime.wire.messages import Address, Body, Delta, Failure

SILENT_S = 10.0


@dataclass
class Network:
    """Who listens where, and how badly messages travel. `delay_s` are bounds; `loss` breaks a connection."""

    rng: Random = field(default_factory=lambda: Random(0))
    delay_s: tuple[float, float] = (0.0, 0.0)
    loss: float = 0.0
    listening: dict[Address, Serve] = field(default_factory=dict)
    links: dict[frozenset[Address], Link] = field(default_factory=dict)
    partitions: set[frozenset[Address]] = field(default_factory=set)

    def link(self, one: Address, other: Address) -> Link:
        """The connection between two processes."""
        pair = frozenset((one, other))
        if pair not in self.links:
            self.links[pair] = Link(self, pair)
        return self.links[pair]

    def partition(self, one: Address, other: Address) -> None:
        """From now on nothing travels between them; both notice after SILENT_S."""
        pair = frozenset((one, other))
        self.partitions.add(pair)
        link = self.links.get(pair)
        if link is not None:
            reason = f"silent for {SILENT_S:.0f} s"
            asyncio.get_running_loop().call_later(SILENT_S, self._notice, pair, link, reason)

    def heal(self, one: Address, other: Address) -> None:
        """Undo `partition`; what was sent meanwhile is lost."""
        self.partitions.discard(frozenset((one, other)))

    def crash(self, address: Address) -> None:
        """The process there is gone, and its peers notice at once."""
        self.listening.pop(address, None)
        for pair, link in list(self.links.items()):
            if address in pair:
                link.end(f"{address} closed the connection")

    def _notice(self, pair: frozenset[Address], link: Link, reason: str) -> None:
        if pair in self.partitions:
            link.end(reason)


class Link:
    """One connection: messages of one direction arrive in order, and all calls over it end with it."""

    def __init__(self, network: Network, pair: frozenset[Address]) -> None:
        self._network = network
        self._pair = pair
        self._calls: dict[MemoryCall, None] = {}  # in the order in which they were opened
        self._lines: dict[Address, deque[Callable[[], None]]] = {}
        self._over = False

    def carry(self, to: Address, deliver: Callable[[], None]) -> None:
        """Have `deliver` called at the other end, later, unless the message or the connection is lost."""
        if self._over or self._pair in self._network.partitions:
            return
        rng = self._network.rng
        if rng.random() < self._network.loss:
            self.end("the connection broke")
            return
        loop = asyncio.get_running_loop()
        # Timers of equal time fire in any order; the line keeps each direction in order.
        self._lines.setdefault(to, deque()).append(deliver)
        loop.call_later(rng.uniform(*self._network.delay_s), self._arrive, to)

    def _arrive(self, to: Address) -> None:
        deliver = self._lines[to].popleft()
        if not self._over and self._pair not in self._network.partitions:
            deliver()

    def add(self, call: MemoryCall) -> None:
        """A call goes over this connection."""
        self._calls[call] = None

    def remove(self, call: MemoryCall) -> None:
        """It is over."""
        self._calls.pop(call, None)

    def end(self, reason: str) -> None:
        """The connection is lost; the next call makes a new one."""
        self._over = True
        self._network.links.pop(self._pair, None)
        calls, self._calls = self._calls, {}
        for call in calls:
            asyncio.get_running_loop().call_soon(call.lose, reason)


class MemoryCall:
    """Both ends of a call between two processes; it is a `Call` to one and a `Reply` to the other."""

    def __init__(self, link: Link, caller: Address, callee: Address, sink: Sink) -> None:
        self.on_cancel: Callable[[], None] | None = None
        self._link = link
        self._caller = caller
        self._callee = callee
        self._sink: Sink | None = sink
        self._serving = False
        link.add(self)

    def begin(self, serve: Serve, body: Body) -> None:
        """The call has arrived."""
        if self._sink is not None:
            self._serving = True
            serve(body, self)

    # ---- the serving end

    def send(self, body: Body) -> None:
        if self._serving:
            try:
                travelled = _travel(body)
            except FrameTooLarge as error:
                self.end(Failure("too_large", str(error)))
                return
            self._link.carry(self._caller, lambda: self._deliver(travelled))
            if isinstance(body, Delta) and body.finish is not None:
                self._serving = False

    def _deliver(self, body: Body) -> None:
        if self._sink is not None:
            self._sink.item(body)
            if isinstance(body, Delta) and body.finish is not None:
                self._finish(None)

    def end(self, failure: Failure | None = None) -> None:
        if self._serving:
            self._serving = False
            self._link.carry(self._caller, lambda: self._finish(failure))

    # ---- the calling end

    def _finish(self, failure: Failure | None) -> None:
        self._link.remove(self)
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.end(failure)

    def cancel(self) -> None:
        if self._sink is not None:
            self._sink = None
            self._link.remove(self)
            self._link.carry(self._callee, self._cancelled)

    def _cancelled(self) -> None:
        if self._serving:
            self._serving = False
            if self.on_cancel is not None:
                self.on_cancel()

    def lose(self, reason: str) -> None:
        """The connection is over, at both ends."""
        self._cancelled()
        self._finish(Failure("peer_lost", reason))


class MemoryTransport:
    """`Transport` over a `Network`. Messages go through the codec, so that nothing is shared by accident."""

    def __init__(self, network: Network, own: Address) -> None:
        self._network = network
        self._own = own
        self._serve: Serve | None = None
        self._closed = False

    async def listen(self, serve: Serve) -> None:
        if self._own in self._network.listening:
            raise Refused(f"cannot listen for peers on {self._own}: address already in use")
        self._serve = self._network.listening[self._own] = serve

    def open(self, to: Address, body: Body, sink: Sink) -> MemoryCall | LocalReply:
        if to == self._own and self._serve is not None:
            return open_local(self._serve, body, sink)
        link = self._network.link(self._own, to)
        call = MemoryCall(link, self._own, to, sink)
        loop = asyncio.get_running_loop()
        partitioned = frozenset((self._own, to)) in self._network.partitions
        if self._closed or to not in self._network.listening:
            loop.call_soon(call.lose, "this process ends" if self._closed else f"no connection to {to}")
        elif partitioned:
            loop.call_later(SILENT_S, call.lose, f"no connection to {to}")
        else:
            try:
                travelled = _travel(body)
            except FrameTooLarge as error:
                loop.call_soon(call._finish, Failure("too_large", str(error)))
                return call
            link.carry(to, lambda: call.begin(self._network.listening[to], travelled))
        return call

    async def stop_listening(self) -> None:
        self._network.listening.pop(self._own, None)

    async def close(self) -> None:
        self._closed = True
        self._network.crash(self._own)
        await asyncio.sleep(0)


def _travel(body: Body) -> Body:
    carried = Unframer().feed(frame([Open(0, body)]))[0]
    assert isinstance(carried, Open)
    return carried.body

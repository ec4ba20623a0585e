"""The seams of the bus: `Transport` between processes, `Store` behind the registry, `Queue` for prefill.

BusError
├── CallFailed     a call to a peer ended with a failure; carries it
├── Down           the service does not answer; trying again later may help
└── Refused        the service answered, and the answer is no; somebody has to do something
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dyno_runtime.wire.messages import Address, Body, Failure, LeaseId


def why(error: OSError) -> str:
    """What the system says, without the prose that asyncio puts around it: `address already in use`."""
    known = error.errno is not None and error.errno > 0
    return (os.strerror(error.errno or 0) if known else error.strerror or str(error)).lower()


class BusError(Exception):
    """The root."""


class CallFailed(BusError):
    """A call ended without its answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Down(BusError):
    """A service could not be reached or did not answer in time."""


class Refused(BusError):
    """A service answered and will not do it; the message says what to change."""


# ---- between processes ---------------------------------------------------------------------------------


class Sink(Protocol):
    """Who opened a call gets its answer here: any number of items, then one end, and nothing after it."""

    def item(self, body: Body) -> None:
        """The next piece."""

    def end(self, failure: Failure | None) -> None:
        """It is over; None means that it is whole."""


class Reply(Protocol):
    """Who serves a call answers here. After `end`, or once it was cancelled, everything is ignored.

    A `Delta` with `finish` is an end, too.
    """

    on_cancel: Callable[[], None] | None  # called once, if the caller leaves before the end

    def send(self, body: Body) -> None:
        """The next piece."""

    def end(self, failure: Failure | None = None) -> None:
        """That was all, or it failed."""


class Call(Protocol):
    """A call that is under way."""

    def cancel(self) -> None:
        """The caller wants no more; its sink hears nothing from here on."""


Serve = Callable[[Body, Reply], None]


class Transport(Protocol):
    """One persistent connection for each pair of processes, and any number of calls over it."""

    async def listen(self, serve: Serve) -> None:
        """Take calls from peers. Raises Refused where the port is taken."""

    def open(self, to: Address, body: Body, sink: Sink) -> Call:
        """Send a call; it connects first where needed. Whatever fails, fails through `sink.end`, later."""

    async def stop_listening(self) -> None:
        """Take no new connections; those that are there stay."""

    async def close(self) -> None:
        """End all connections; calls under way end as `peer_lost`."""


# ---- the registry --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Snapshot:
    """All entries under a prefix at one revision."""

    entries: Mapping[str, bytes]
    revision: int


@dataclass(frozen=True)
class Change:
    """One entry was put, or deleted where `value` is None."""

    key: str
    value: bytes | None


class Store(Protocol):
    """A small consistent key-value store with leases (etcd)."""

    async def hold(self, lease: LeaseId, ttl_s: float, entries: Mapping[str, bytes]) -> None:
        """Make sure that the lease lives, and put these entries under it. Raises Down, Refused."""

    async def refresh(self, lease: LeaseId) -> bool:
        """Prolong the lease; False if it is gone. Raises Down, Refused."""

    async def revoke(self, lease: LeaseId) -> None:
        """End the lease and its entries now; a lease that is gone is fine. Raises Down, Refused."""

    async def read(self, prefix: str) -> Snapshot:
        """What is there. Raises Down, Refused."""

    def watch(self, prefix: str, revision: int) -> AsyncIterator[Change]:
        """Changes from `revision` on, for ever. Raises Down, Refused; never ends by itself."""

    async def close(self) -> None:
        """Let go of the connection; leases live on until they expire."""


# ---- the prefill queue ---------------------------------------------------------------------------------


class Work(Protocol):
    """One item that was pulled. Until it is acked it belongs to the queue and will come again."""

    data: bytes

    async def ack(self) -> None:
        """The work is done; forget the item. Raises Down."""

    async def give_back(self) -> None:
        """Somebody else should do it, soon. Raises Down."""

    async def still_working(self) -> None:
        """Do not give it to anybody else yet. Raises Down."""


class Queue(Protocol):
    """The work queue of one model, acked after the work, each item given out a bounded number of times."""

    async def push(self, item_id: str, data: bytes) -> None:
        """Add an item; the same id twice is one item. Raises Down, Refused."""

    async def pull(self, wait_s: float) -> Work | None:
        """The next item, or None if none came in time. Raises Down, Refused."""

    async def depth(self) -> int:
        """How many items nobody has pulled yet. Raises Down, Refused."""

    async def last(self) -> int:
        """The number of the newest item ever pushed, of any model, 0 if there was none. Raises Down, Refused."""

    async def purge(self, up_to: int) -> None:
        """Drop the items of this model up to and including this number. Raises Down, Refused."""

    async def close(self) -> None:
        """Let go of the connection."""

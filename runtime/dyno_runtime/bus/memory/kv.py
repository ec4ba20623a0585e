"""`Store` in one process, with leases that expire, and faults.

In: a `Kv` that all processes of a simulation share. Out: a `MemoryStore` for each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from dyno_runtime.bus.base import Change, Down, Refused, Snapshot
from dyno_runtime.wire.messages import LeaseId


class Kv:
    """The state that all stores share. `down` and `refusing` make every call fail."""

    def __init__(self) -> None:
        self.down = False
        self.refusing: str | None = None
        self.revision = 1
        self.entries: dict[str, bytes] = {}
        self.history: list[tuple[int, Change]] = []
        self.changed = asyncio.Event()
        self._holders: dict[str, LeaseId] = {}
        self._ttls: dict[LeaseId, float] = {}
        self._timers: dict[LeaseId, asyncio.TimerHandle] = {}

    def check(self) -> None:
        """Raise what the faults say."""
        if self.down:
            raise Down("etcd in memory does not answer")
        if self.refusing is not None:
            raise Refused(f"etcd in memory refused: {self.refusing}")

    def fail(self) -> None:
        """Go down: watches end."""
        self.down = True
        self.wake()

    def wake(self) -> None:
        """Let every watch look."""
        self.changed.set()
        self.changed = asyncio.Event()

    def grant(self, lease: LeaseId, ttl_s: float) -> None:
        """Make or prolong a lease."""
        self._ttls[lease] = ttl_s
        self.prolong(lease)

    def prolong(self, lease: LeaseId) -> bool:
        """Start a lease's time again; False if there is no such lease."""
        if lease not in self._ttls:
            return False
        timer = self._timers.get(lease)
        if timer is not None:
            timer.cancel()
        loop = asyncio.get_running_loop()
        self._timers[lease] = loop.call_later(self._ttls[lease], self.expire, lease)
        return True

    def expire(self, lease: LeaseId) -> None:
        """End a lease with all its entries."""
        if self._ttls.pop(lease, None) is not None:
            self._timers.pop(lease).cancel()
            for key in [key for key, holder in self._holders.items() if holder == lease]:
                del self.entries[key], self._holders[key]
                self._note(Change(key, None))

    def put(self, key: str, value: bytes, lease: LeaseId) -> None:
        """Put an entry under a lease."""
        self.entries[key], self._holders[key] = value, lease
        self._note(Change(key, value))

    def _note(self, change: Change) -> None:
        self.revision += 1
        self.history.append((self.revision, change))
        self.wake()

    def close(self) -> None:
        """Stop the timers."""
        for timer in self._timers.values():
            timer.cancel()


class MemoryStore:
    """`Store` over a `Kv`."""

    def __init__(self, kv: Kv) -> None:
        self._kv = kv

    async def hold(self, lease: LeaseId, ttl_s: float, entries: Mapping[str, bytes]) -> None:
        self._kv.check()
        self._kv.grant(lease, ttl_s)
        for key, value in entries.items():
            self._kv.put(key, value, lease)

    async def refresh(self, lease: LeaseId) -> bool:
        self._kv.check()
        return self._kv.prolong(lease)

    async def revoke(self, lease: LeaseId) -> None:
        self._kv.check()
        self._kv.expire(lease)

    async def read(self, prefix: str) -> Snapshot:
        self._kv.check()
        found = {key: value for key, value in self._kv.entries.items() if key.startswith(prefix)}
        return Snapshot(found, self._kv.revision)

    async def watch(self, prefix: str, revision: int) -> AsyncIterator[Change]:
        kv = self._kv
        while True:
            kv.check()
            wake = kv.changed
            for at, change in [one for one in kv.history if one[0] >= revision]:
                revision = at + 1
                if change.key.startswith(prefix):
                    yield change
            if wake is kv.changed:
                await wake.wait()

    async def close(self) -> None:
        pass

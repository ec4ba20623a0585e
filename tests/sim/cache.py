"""The KV blocks of one simulated worker: what requests use, and what is only kept until room is needed.

In: jobs that start, compute and end. Out: how much of a prompt is there already, and entries in the real `Ledger`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from dyno_runtime.core.kv_ledger import Ledger


@dataclass(slots=True)
class Lease:
    """What one job holds: `shared` blocks by hash, and `private` ones (not full yet, output, or there twice)."""

    shared: list[int] = field(default_factory=list)
    private: int = 0


class Cache:
    """`total` blocks, the least recently used of those that nobody uses go first."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.ledger = Ledger()
        self._used: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._private = 0

    @property
    def active(self) -> int:
        """Blocks that jobs use."""
        return len(self._used) + self._private

    def acquire(self, hashes: list[int], most_matched: int, needed: int) -> tuple[Lease, int] | None:
        """Room for `needed` blocks, and how many of the first ones are there; None where there is no room yet."""
        matched = 0
        for block in hashes[:most_matched]:
            if block not in self._used and block not in self._idle:
                break
            matched += 1
        woken = sum(1 for block in hashes[:matched] if block in self._idle)
        private = needed - matched
        if private > self.total - self.active - woken:
            return None
        lease = Lease(hashes[:matched], private)
        for block in lease.shared:
            self._idle.pop(block, None)
            self._used[block] = self._used.get(block, 0) + 1
        self._private += private
        while self.active + len(self._idle) > self.total:
            forgotten, _ = self._idle.popitem(last=False)
            self.ledger.removed([forgotten])
        return lease, matched

    def computed(self, lease: Lease, block: int) -> None:
        """One of the private blocks is full now, and has a name."""
        if block not in self._used and block not in self._idle:
            self._used[block] = 1
            self._private -= 1
            lease.private -= 1
            lease.shared.append(block)
            self.ledger.stored([block])

    def release(self, lease: Lease) -> None:
        """The job is over. Its tail goes before its head."""
        self._private -= lease.private
        for block in reversed(lease.shared):
            self._used[block] -= 1
            if not self._used[block]:
                del self._used[block]
                self._idle[block] = None

    def clear(self) -> None:
        """Forget everything; nobody uses anything."""
        assert not self.active
        self._idle.clear()
        self.ledger.cleared()

    def check(self) -> None:
        """What must hold at any time."""
        assert self._private >= 0
        assert self.active + len(self._idle) <= self.total
        assert self.ledger.held == self._used.keys() | self._idle.keys()

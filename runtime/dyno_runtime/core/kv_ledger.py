"""A worker's own account of the KV blocks it holds, and what it tells about them.

In: blocks stored, removed, cleared, as the engine reports them. Out: one `KvBatch` a step, and for a router
that missed some the batches again, or a `KvSnapshot` where they are too old. Bounded: it keeps the last
batches, up to a number of blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from dyno_runtime.wire.kv import BlockHash, KvBatch, KvSnapshot

KEPT_BLOCKS = 100_000


class Ledger:
    """See the module."""

    def __init__(self, kept_blocks: int = KEPT_BLOCKS) -> None:
        self.seq = 0
        self.held: set[BlockHash] = set()
        self._stored: dict[BlockHash, None] = {}  # a set that keeps its order
        self._removed: dict[BlockHash, None] = {}
        self._cleared = False
        self._kept: deque[KvBatch] = deque()
        self._kept_blocks = 0
        self._max_kept_blocks = kept_blocks

    def stored(self, hashes: Iterable[BlockHash]) -> None:
        """These are in the cache now."""
        for block in hashes:
            if block not in self.held:
                self.held.add(block)
                # Removed and stored again within one step: nobody needs to know.
                if block in self._removed:
                    del self._removed[block]
                else:
                    self._stored[block] = None

    def removed(self, hashes: Iterable[BlockHash]) -> None:
        """These are not in the cache any more."""
        for block in hashes:
            if block in self.held:
                self.held.discard(block)
                if block in self._stored:
                    del self._stored[block]
                else:
                    self._removed[block] = None

    def cleared(self) -> None:
        """The cache is empty now."""
        self.held.clear()
        self._stored.clear()
        self._removed.clear()
        self._cleared = True

    def flush(self) -> KvBatch | None:
        """The changes since the last flush, to be told to everybody; None where there are none."""
        if not (self._stored or self._removed or self._cleared):
            return None
        self.seq += 1
        batch = KvBatch(self.seq, tuple(self._stored), tuple(self._removed), self._cleared)
        self._stored, self._removed, self._cleared = {}, {}, False
        self._keep(batch)
        return batch

    def since(self, after: int) -> list[KvBatch] | KvSnapshot:
        """All batches after number `after`; a snapshot where they are not kept, or would be longer than one."""
        first = self._kept[0].seq if self._kept else self.seq + 1
        if after + 1 >= first:
            missed = [batch for batch in self._kept if batch.seq > after]
            if sum(_size(batch) for batch in missed) <= len(self.held):
                return missed
        # What is not flushed yet will come as a batch of its own, so it is taken back here.
        return KvSnapshot(self.seq, tuple((self.held - self._stored.keys()) | self._removed.keys()))

    def _keep(self, batch: KvBatch) -> None:
        self._kept.append(batch)
        self._kept_blocks += _size(batch)
        while self._kept_blocks > self._max_kept_blocks:
            self._kept_blocks -= _size(self._kept.popleft())


def _size(batch: KvBatch) -> int:
    return len(batch.stored) + len(batch.removed) + 1

"""Which worker holds which KV blocks: one flat map from a block's chained hash to a bit set of workers.

In: blocks stored and removed, workers that come and go, prompts just routed. Out: for a prompt's hashes, how
many blocks each worker holds from the start. A hash names its whole prefix, so no tree is needed.

Bounds: above `max_blocks` the blocks that were stored or routed to least recently are forgotten, tails before heads.
A worker's bit leaves the matches at once when the worker goes or clears its cache; the bit itself is swept out
of the map little by little, and only then given to another worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import islice

from dyno_runtime.wire.kv import BlockHash
from dyno_runtime.wire.messages import LeaseId

MAX_BLOCKS = 1_000_000
_SWEEP_BLOCKS = 1024  # looked at on each change, while there is something to sweep
_FORGET_BLOCKS = 1024  # forgotten at a time: a dict is slow to find its oldest keys
_MANY_RETIRED = 64


class PrefixIndex:
    """See the module. Unknown workers are ignored in all calls but `add`: their last words may come after their
    end."""

    def __init__(self, max_blocks: int = MAX_BLOCKS) -> None:
        self.max_blocks = max_blocks
        self.held: dict[LeaseId, int] = {}  # how many blocks each worker is believed to hold
        self._sets: dict[BlockHash, int] = {}
        self._slots: dict[LeaseId, int] = {}
        self._names: list[LeaseId | None] = []
        self._bits: list[int] = []  # one object for each slot, shared by all blocks that only it holds
        self._free: list[int] = []
        self._live = 0
        self._retired = 0  # bits that wait for a sweep
        self._sweeping = 0  # bits that the sweep under way takes out
        self._to_sweep: list[BlockHash] = []
        self._pending: dict[LeaseId, dict[BlockHash, float]] = {}  # expected, until when
        self._due: list[tuple[float, int, LeaseId, Sequence[BlockHash]]] = []
        self._count = 0

    def __len__(self) -> int:
        """How many different blocks are known."""
        return len(self._sets)

    # ---- workers ---------------------------------------------------------------------------------------

    def add(self, worker: LeaseId) -> None:
        """A worker that holds nothing yet. One that is there already stays as it is."""
        if worker in self._slots:
            return
        if self._retired.bit_count() + self._sweeping.bit_count() > _MANY_RETIRED:
            self.sweep(2 * len(self._sets) + 1)
        if self._free:
            slot = heappop(self._free)
        else:
            slot = len(self._names)
            self._names.append(None)
            self._bits.append(1 << slot)
        self._slots[worker] = slot
        self._names[slot] = worker
        self._live |= self._bits[slot]
        self.held[worker] = 0
        self._pending[worker] = {}

    def remove(self, worker: LeaseId) -> None:
        """The worker is gone, and all it held."""
        slot = self._slots.pop(worker, None)
        if slot is None:
            return
        self._names[slot] = None
        self._live ^= self._bits[slot]
        self._retired |= self._bits[slot]
        del self.held[worker], self._pending[worker]
        self.sweep()

    def clear(self, worker: LeaseId) -> None:
        """The worker holds nothing any more."""
        if self.held.get(worker):
            self.remove(worker)
            self.add(worker)

    # ---- blocks ----------------------------------------------------------------------------------------

    def store(self, worker: LeaseId, blocks: Sequence[BlockHash]) -> None:
        """The worker holds these, says the worker."""
        slot = self._slots.get(worker)
        if slot is None:
            return
        bit, sets, new = self._bits[slot], self._sets, 0
        # The head of a chain goes in last: it is the youngest and outlives its tail.
        for block in reversed(blocks):
            holders = sets.get(block)
            if holders is None:
                sets[block] = bit
                new += 1
            elif not holders & bit:
                sets[block] = holders | bit
                new += 1
        self.held[worker] += new
        if pending := self._pending[worker]:
            for block in blocks:
                pending.pop(block, None)
        self._bound()

    def drop(self, worker: LeaseId, blocks: Iterable[BlockHash]) -> None:
        """The worker does not hold these any more."""
        slot = self._slots.get(worker)
        if slot is None:
            return
        bit, sets, pending, gone = self._bits[slot], self._sets, self._pending[worker], 0
        for block in blocks:
            holders = sets.get(block, 0)
            if holders & bit:
                gone += 1
                if holders == bit:
                    del sets[block]
                else:
                    sets[block] = holders ^ bit
            if pending:
                pending.pop(block, None)
        self.held[worker] -= gone
        self.sweep()

    # ---- prompts ---------------------------------------------------------------------------------------

    def match(self, blocks: Sequence[BlockHash]) -> dict[LeaseId, int]:
        """How many blocks of the prompt each worker holds, from the first one on; who holds none is left out."""
        matched: dict[LeaseId, int] = {}
        get, current = self._sets.get, self._live
        for depth, block in enumerate(blocks):
            holders = get(block)
            left = 0 if holders is None else current & holders
            if left != current:
                if depth:
                    self._spell(current ^ left, depth, matched)
                if not left:
                    return matched
                current = left
        if blocks:
            self._spell(current, len(blocks), matched)
        return matched

    def expect(self, worker: LeaseId, blocks: Sequence[BlockHash], until_s: float) -> None:
        """The prompt was just routed to the worker, which will hold it soon; believed for no longer than
        `until_s`."""
        slot = self._slots.get(worker)
        if slot is None:
            return
        if len(self._sets) > self.max_blocks // 8 * 7:
            self._make_young(blocks)
        bit, sets, pending, new, longer = self._bits[slot], self._sets, self._pending[worker], 0, False
        for block in reversed(blocks):
            holders = sets.get(block, 0)
            if not holders & bit:
                sets[block] = holders | bit if holders else bit
                pending[block] = until_s
                new += 1
            elif block in pending and pending[block] < until_s:
                pending[block] = until_s
                longer = True
        self.held[worker] += new
        if new or longer:
            self._count += 1
            heappush(self._due, (until_s, self._count, worker, blocks))
        self._bound()

    def expire(self, now_s: float) -> None:
        """Forget what was expected up to now and did not come true. Call it from time to time."""
        while self._due and self._due[0][0] <= now_s:
            _, _, worker, blocks = heappop(self._due)
            pending = self._pending.get(worker)
            if pending:
                self.drop(worker, [block for block in blocks if pending.get(block, now_s + 1) <= now_s])
        self.sweep()

    def blocks_of(self, worker: LeaseId) -> set[BlockHash]:
        """All that the worker is believed to hold. Slow: it looks at every block that is known."""
        slot = self._slots.get(worker)
        if slot is None:
            return set()
        bit = self._bits[slot]
        return {block for block, holders in self._sets.items() if holders & bit}

    @property
    def expected(self) -> int:
        """How many blocks of routed prompts are believed in without a word of their workers."""
        return sum(len(pending) for pending in self._pending.values())

    # ---- bounds ----------------------------------------------------------------------------------------

    def sweep(self, blocks: int = _SWEEP_BLOCKS) -> None:
        """Take the bits of gone workers out of at most this many blocks."""
        if not self._sweeping:
            if not self._retired:
                return
            self._to_sweep = list(self._sets)
            self._sweeping, self._retired = self._retired, 0
        sets, sweeping = self._sets, self._sweeping
        some = self._to_sweep[-blocks:]
        del self._to_sweep[-blocks:]
        for block in some:
            holders = sets.get(block, 0)
            if stale := holders & sweeping:
                if stale == holders:
                    del sets[block]
                else:
                    sets[block] = holders ^ stale
        if not self._to_sweep:
            # No block can have got one of these bits meanwhile: only live workers store.
            for slot in _slots_of(sweeping):
                heappush(self._free, slot)
            self._sweeping = 0

    def _bound(self) -> None:
        sets = self._sets
        if len(sets) <= self.max_blocks:
            if self._retired or self._sweeping:
                self.sweep()
            return
        some = max(len(sets) - self.max_blocks, min(_FORGET_BLOCKS, self.max_blocks // 64))
        for block in list(islice(sets, some)):
            for slot in _slots_of(sets.pop(block) & self._live):
                worker = self._names[slot]
                if worker is not None:
                    self.held[worker] -= 1
                    self._pending[worker].pop(block, None)

    def _make_young(self, blocks: Sequence[BlockHash]) -> None:
        """Near the bound, what is asked for stays and what nobody asks for goes."""
        for block in reversed(blocks):
            holders = self._sets.pop(block, None)
            if holders is not None:
                self._sets[block] = holders

    def _spell(self, bits: int, depth: int, matched: dict[LeaseId, int]) -> None:
        for slot in _slots_of(bits):
            worker = self._names[slot]
            if worker is not None:
                matched[worker] = depth


def _slots_of(bits: int) -> list[int]:
    """The positions of the bits that are set."""
    if bits.bit_count() > 8:
        return [slot for slot, digit in enumerate(reversed(f"{bits:b}")) if digit == "1"]
    slots = []
    while bits:
        slots.append((bits & -bits).bit_length() - 1)
        bits &= bits - 1
    return slots

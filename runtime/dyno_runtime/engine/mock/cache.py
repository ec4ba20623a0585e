"""The KV blocks of one engine: who uses which, and which can be reused by their name.

In: blocks claimed, named once they are full, and released. Out: block numbers, and what changed for the eyes of
routers. A block is free, used by one or more jobs, or idle: nobody uses it, but its name is still known. Idle
ones are given up when room is needed, those first that were released first; of one job the tail before the head.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from dyno_runtime.engine.base import KvCleared, KvRemoved, KvStored
from dyno_runtime.wire.kv import BlockHash
from dyno_runtime.wire.messages import Token

Change = KvStored | KvRemoved | KvCleared


class KvCache:
    """`total` blocks of `block_size` tokens each."""

    def __init__(self, total: int, block_size: int) -> None:
        self.total = total
        self.block_size = block_size
        self._free = list(range(total - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._users = [0] * total
        self._names: list[BlockHash | None] = [None] * total
        self._blocks: dict[BlockHash, int] = {}
        self._changes: list[Change] = []

    @property
    def active(self) -> int:
        """Blocks in use."""
        return self.total - len(self._free) - len(self._idle)

    @property
    def idle(self) -> int:
        """Blocks that nobody uses and that can still be reused by name."""
        return len(self._idle)

    def held(self) -> list[BlockHash]:
        """The names of all blocks that can be reused."""
        return list(self._blocks)

    def find(self, names: Sequence[BlockHash]) -> list[int]:
        """The blocks of the first names, up to the first one that is not here."""
        found, get = [], self._blocks.get
        for name in names:
            block = get(name)
            if block is None:
                break
            found.append(block)
        return found

    def claim(self, known: list[int], new: int) -> list[int] | None:
        """Use the `known` blocks and `new` empty ones besides; None, and nothing changed, where there is no room."""
        users = self._users
        woken = [block for block in known if not users[block]]
        if new > len(self._free) + len(self._idle) - len(woken):
            return None
        for block in woken:
            del self._idle[block]
        for block in known:
            users[block] += 1
        self._give_up(new - len(self._free))
        start = len(self._free) - new
        blocks = self._free[start:]
        del self._free[start:]
        for block in blocks:
            users[block] = 1
        return known + blocks

    def name(self, blocks: list[int], names: list[BlockHash], parent: BlockHash, tokens: list[Token]) -> None:
        """These blocks are full now, one after the other. A name that another block has already stays with that."""
        known, of_block = self._blocks, self._names
        start = 0  # of the names since the last one that was there already
        for place, (block, name) in enumerate(zip(blocks, names, strict=True)):
            if name in known:
                self._stored(names, start, place, parent, tokens)
                start = place + 1
            else:
                known[name] = block
                of_block[block] = name
        self._stored(names, start, len(names), parent, tokens)

    def release(self, blocks: list[int]) -> None:
        """One user of these blocks needs them no more."""
        users, names = self._users, self._names
        for block in reversed(blocks):
            users[block] -= 1
            if not users[block]:
                if names[block] is None:
                    self._free.append(block)
                else:
                    self._idle[block] = None

    def clear(self) -> None:
        """Forget all names. Blocks in use stay with their users."""
        self._free.extend(self._idle)
        self._idle.clear()
        self._blocks.clear()
        self._names = [None] * self.total
        self._changes = [KvCleared()]

    def flush(self) -> list[Change]:
        """What changed since the last time, in order."""
        changes, self._changes = self._changes, []
        return changes

    def _give_up(self, count: int) -> None:
        """Make that many idle blocks free."""
        if count <= 0:
            return
        gone, names, known, pop = [], self._names, self._blocks, self._idle.popitem
        for _ in range(count):
            block, _ = pop(last=False)
            name = names[block]
            assert name is not None
            names[block] = None
            del known[name]
            gone.append(name)
            self._free.append(block)
        last = self._changes[-1] if self._changes else None
        if isinstance(last, KvRemoved):
            last.hashes.extend(gone)
        else:
            self._changes.append(KvRemoved(gone))

    def _stored(
        self, names: list[BlockHash], start: int, end: int, parent: BlockHash, tokens: list[Token]
    ) -> None:
        """Note that the names from `start` to `end` are here; `parent` is that of the first of all names."""
        if start == end:
            return
        parent = names[start - 1] if start else parent
        new, said = names[start:end], tokens[start * self.block_size : end * self.block_size]
        last = self._changes[-1] if self._changes else None
        if isinstance(last, KvStored) and last.hashes[-1] == parent:
            last.hashes.extend(new)
            last.tokens.extend(said)
        else:
            self._changes.append(KvStored(new, parent, said))

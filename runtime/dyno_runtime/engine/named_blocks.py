"""From an engine's own block hashes to ours, in the worker that runs the engine.

In: what the engine says it stored and removed, by its hashes. Out: the same to a `Keeper`, by those of
`core.blocks`. Nobody needs to know how an engine hashes: it says which tokens a block holds, and which block
came before.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol

from dyno_runtime.engine.base import HashBlocks
from dyno_runtime.wire.kv import BlockHash
from dyno_runtime.wire.messages import Token


class Keeper(Protocol):
    """Who wants to know; `core.kv_ledger.Ledger` is one."""

    def stored(self, hashes: Iterable[BlockHash]) -> None:
        """These are in the cache now."""

    def removed(self, hashes: Iterable[BlockHash]) -> None:
        """These are not any more."""

    def cleared(self) -> None:
        """The cache is empty."""


class NamedBlocks:
    """See the module. As large as the engine's cache: what it removes is forgotten here, too."""

    def __init__(self, keeper: Keeper, block_size: int, hash_blocks: HashBlocks) -> None:
        self.orphans = 0  # blocks without a name, because the block before them is unknown
        self._keeper = keeper
        self._block_size = block_size
        self._hash_blocks = hash_blocks
        self._names: dict[Hashable, BlockHash] = {}
        self._copies: dict[BlockHash, int] = {}

    def stored(
        self, blocks: Sequence[Hashable], before: Hashable | None, tokens: Sequence[Token], salt: BlockHash
    ) -> None:
        """The engine holds these blocks of `tokens`, which follow the block `before`, or begin a prompt.

        Raises:
            ValueError: the engine's blocks are of another size than this worker said.
        """
        if len(tokens) != len(blocks) * self._block_size:
            raise ValueError(
                f"the engine put {len(tokens)} tokens into {len(blocks)} blocks; "
                f"this worker's engine.block_size is {self._block_size}"
            )
        parent = salt if before is None else self._names.get(before)
        if parent is None:
            self.orphans += len(blocks)
            return
        for block, name in zip(blocks, self._hash_blocks(tokens, self._block_size, parent), strict=True):
            if block not in self._names:
                self._names[block] = name
                self._copies[name] = self._copies.get(name, 0) + 1
                self._keeper.stored([name])

    def removed(self, blocks: Iterable[Hashable]) -> None:
        """The engine does not hold these any more; what it never named is ignored."""
        for block in blocks:
            name = self._names.pop(block, None)
            if name is None:
                continue
            self._copies[name] -= 1
            if not self._copies[name]:
                del self._copies[name]
                self._keeper.removed([name])

    def cleared(self) -> None:
        """The engine holds nothing."""
        self._names.clear()
        self._copies.clear()
        self._keeper.cleared()

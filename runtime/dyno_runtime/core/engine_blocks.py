"""From an engine's own block hashes to ours, in the worker that runs the engine.

In: what the engine says it stored and removed, by its hashes. Out: the same in a `Ledger`, by those of
`core.blocks`. Nobody needs to know how an engine hashes: it says which tokens a block holds, and which block
came before.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from dyno_runtime.core.blocks import block_hashes
from dyno_runtime.core.kv_ledger import Ledger
from dyno_runtime.wire.kv import BlockHash
from dyno_runtime.wire.messages import Token


class EngineBlocks:
    """See the module. As large as the engine's cache: what it removes is forgotten here, too."""

    def __init__(self, ledger: Ledger, block_size: int) -> None:
        self.orphans = 0  # blocks without a name, because the block before them is unknown
        self._ledger = ledger
        self._block_size = block_size
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
        for block, name in zip(blocks, block_hashes(tokens, self._block_size, parent), strict=True):
            if block not in self._names:
                self._names[block] = name
                self._copies[name] = self._copies.get(name, 0) + 1
                self._ledger.stored([name])

    def removed(self, blocks: Iterable[Hashable]) -> None:
        """The engine does not hold these any more; what it never named is ignored."""
        for block in blocks:
            name = self._names.pop(block, None)
            if name is None:
                continue
            self._copies[name] -= 1
            if not self._copies[name]:
                del self._copies[name]
                self._ledger.removed([name])

    def cleared(self) -> None:
        """The engine holds nothing."""
        self._names.clear()
        self._copies.clear()
        self._ledger.cleared()

"""What workers tell routers: which KV blocks they hold, and how loaded they are.

Hashes are those of `core.blocks`, 64 bits, never an engine's own. A worker numbers its batches from 1 without a gap,
so a router sees what it missed, and asks with `KvAsk`; the answer is the missing batches or a whole `KvSnapshot`.
"""

from __future__ import annotations

import msgspec

BlockHash = int


class KvBatch(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The changes of one engine step, in this order: all blocks dropped (`cleared`), `removed`, then `stored`."""

    seq: int
    stored: tuple[BlockHash, ...] = ()
    removed: tuple[BlockHash, ...] = ()
    cleared: bool = False


class KvSnapshot(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Everything that is held after batch `seq`; 0 where there was no batch yet."""

    seq: int
    held: tuple[BlockHash, ...] = ()


class KvAsk(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Router to worker: tell me all that came after batch `after`."""

    after: int


class LoadReport(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A worker's load at one moment.

    `queued_tokens` are prompt tokens that were not computed yet, of waiting requests and of the one in prefill.
    `active_blocks` are KV blocks in use by requests, of `total_blocks`; what is only cached does not count.
    `prefill_tokens_per_s` is what the worker measured, 0 where it does not know. `kv_seq` is its newest batch.
    """

    running: int
    waiting: int
    queued_tokens: int
    active_blocks: int
    total_blocks: int
    prefill_tokens_per_s: float = 0.0
    kv_seq: int = 0

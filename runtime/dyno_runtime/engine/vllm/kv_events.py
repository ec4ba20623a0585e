"""vLLM's KV events: bytes of its publisher → values.

In: a payload. Out: what was stored, removed and cleared, by the engine's own hashes. Events come as maps with a
`type`, or, of older versions, as arrays whose first element is the type; both are read, and fields that are not
known are left alone. What is not on the GPU (or what stands for it on CPUs) is no part of the cache we speak of.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import msgspec

# The order of fields in an array, after the type.
_STORED = (
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
)
_REMOVED = ("block_hashes", "medium")


class BadEvent(ValueError):
    """The payload is not what any known version sends."""


@dataclass(frozen=True)
class Stored:
    """These blocks of `tokens` follow the block `before`, or begin a prompt whose cache salt is `salt`."""

    blocks: tuple[Hashable, ...]
    before: Hashable | None
    tokens: tuple[int, ...]
    salt: str | None = None
    lora: str | None = None


@dataclass(frozen=True)
class Removed:
    """These are not held any more."""

    blocks: tuple[Hashable, ...] = field(default=())


@dataclass(frozen=True)
class Cleared:
    """Nothing is held any more."""


Event = Stored | Removed | Cleared


def read_batch(payload: bytes) -> list[Event]:
    """The events of one step, in their order. Raises BadEvent."""
    try:
        batch = msgspec.msgpack.decode(payload)
        return [event for one in batch[1] if (event := _event(one)) is not None]
    except (msgspec.DecodeError, TypeError, KeyError, IndexError, ValueError) as error:
        raise BadEvent(f"a KV event of vLLM cannot be read: {error}") from error


def _event(raw: Any) -> Event | None:
    if isinstance(raw, dict):
        kind, fields = raw["type"], raw
    else:
        kind = raw[0]
        names = _STORED if kind == "BlockStored" else _REMOVED
        fields = dict(zip(names, raw[1:], strict=False))
    if kind == "AllBlocksCleared":
        return Cleared()
    if fields.get("medium") not in (None, "GPU") or fields.get("group_idx") not in (None, 0):
        return None  # another tier, or the second view of the same tokens
    blocks = tuple(fields["block_hashes"])
    if kind == "BlockRemoved":
        return Removed(blocks)
    if kind != "BlockStored":
        return None
    lora = fields.get("lora_name")
    extra = (fields.get("extra_keys") or [None])[0] or ()
    salts = [one for one in extra if isinstance(one, str) and one != lora]
    return Stored(
        blocks, fields["parent_block_hash"], tuple(fields["token_ids"]), salts[-1] if salts else None, lora
    )

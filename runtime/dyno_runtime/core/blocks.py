"""Names of KV blocks: a 64-bit hash for each full block of a prompt, chained, so that it names the whole prefix.

In: token ids, the block size, and the salt of model, LoRA adapter and cache salt. Out: one number a block, the same
in every process, on every machine and in every version of Python.

XXH3 with the parent's hash as seed, over the block's tokens as little-endian 32-bit numbers. It is fast, not
cryptographic: two prompts that collide are sent to the same worker, and are answered correctly there. Measured on
8,192 tokens, best of 30, µs at block size 16 / 64 / 512: XXH3 61 / 42 / 35 (31 of it are `array`), murmur-like crc32
114 / 54 / 39, sha256 200 / 86 / 55, blake2b 204 / 101 / 63, `hash` of a tuple 98 / 55 / 40 (and its own in
every process).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from struct import iter_unpack

from xxhash import xxh3_64_intdigest

from dyno_runtime.wire.kv import BlockHash
from dyno_runtime.wire.messages import Token

_TOKEN_BYTES = 4
_SWAP = sys.byteorder == "big"
assert array("I").itemsize == _TOKEN_BYTES


def salt(model: str, lora: str = "", cache_salt: str = "") -> BlockHash:
    """The parent of a first block. Prompts of different models, adapters or cache salts share no block."""
    parts = [part.encode() for part in (model, lora, cache_salt)]
    return xxh3_64_intdigest(b"".join(len(part).to_bytes(4, "little") + part for part in parts))


def block_hashes(tokens: Sequence[Token], block_size: int, parent: BlockHash) -> list[BlockHash]:
    """The hashes of the full blocks of `tokens`, which follow the block `parent` (or a `salt`).

    Raises:
        ValueError: a token that is no 32-bit number, or a block size below 1.
    """
    if block_size < 1:
        raise ValueError(f"a block of {block_size} tokens; it needs at least one")
    try:
        words = array("I", tokens)
    except OverflowError as error:
        raise ValueError("a token id is negative or above 4294967295") from error
    if _SWAP:
        words.byteswap()
    del words[len(words) // block_size * block_size :]
    blocks = iter_unpack(f"{block_size * _TOKEN_BYTES}s", words.tobytes())
    return [parent := xxh3_64_intdigest(block, parent) for (block,) in blocks]

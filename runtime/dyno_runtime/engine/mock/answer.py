"""What the mock engine says: tokens that follow from seed, prompt and position alone.

In: the seed, the hash of the prompt's last full block, the tokens after it. Out: the whole answer, the same on every
worker with the same block size, whatever is batched with it, and from any position on.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import shake_128
from struct import pack

from dyno_runtime.engine.base import Finish, Job, Logprob
from dyno_runtime.engine.mock.args import MockArgs
from dyno_runtime.wire.kv import BlockHash
from dyno_runtime.wire.messages import Token

_LENGTH_BYTES = 4
_SHORT_TOKENS = 256
_U64 = 2**64 - 1
# How often each letter comes among 256.
_LETTERS = {
    " ": 42, "e": 27, "t": 20, "a": 18, "o": 17, "i": 16, "n": 16, "s": 14, "h": 13, "r": 13, "d": 10,
    "l": 9, "u": 7, "c": 6, "m": 6, "w": 5, "f": 5, "g": 4, "y": 4, "p": 2, "b": 1, "v": 1,
}  # fmt: skip
BYTE_WORDS: tuple[Token, ...] = tuple(ord(letter) for letter, times in _LETTERS.items() for _ in range(times))


class Words:
    """256 tokens, some of them perhaps more than once; one byte of a hash chooses one."""

    def __init__(self, tokens: Sequence[Token] = BYTE_WORDS) -> None:
        if len(tokens) != 256:
            raise ValueError(f"{len(tokens)} words; one byte chooses among 256")
        self._tokens = tuple(tokens)
        self._bytes = bytes(tokens) if max(tokens) < 256 else None
        self._distinct = tuple(dict.fromkeys(tokens))

    def spell(self, chosen: bytes) -> list[Token]:
        """The token of each byte."""
        if self._bytes is not None:
            return list(chosen.translate(self._bytes))
        return list(map(self._tokens.__getitem__, chosen))

    def logprobs(self, chosen: bytes, count: int) -> list[Logprob]:
        """Made up, but the same each time: the chosen token is always the likeliest one."""
        entries = []
        for byte in chosen:
            token, best = self._tokens[byte], -(byte % 16 + 1) / 16
            start = byte % len(self._distinct)
            others = (*self._distinct[start:], *self._distinct[:start])[: count + 1]
            names = [token, *(other for other in others if other != token)][:count]
            entries.append(
                Logprob(best, tuple((other, best - place / 2) for place, other in enumerate(names)))
            )
        return entries


@dataclass(frozen=True, slots=True)
class Answer:
    """The new tokens of one job, all of them, why they end, and the bytes that they come from."""

    tokens: list[Token]
    finish: Finish
    chosen: bytes


def answer(args: MockArgs, words: Words, job: Job, parent: BlockHash, tail: list[Token], most: int) -> Answer:
    """What the job is answered, at most `most` new tokens.

    `parent` is the hash of the last full block of the prompt, or its salt; `tail` are the prompt's tokens after it,
    without those of `job.answered`.
    """
    sampling, begun = job.sampling, job.answered
    seed = args.seed if sampling.seed is None else sampling.seed
    key = shake_128(pack("<QQ", parent, seed & _U64) + _bytes_of(tail))
    if sampling.max_tokens is not None and sampling.max_tokens < most:
        most = sampling.max_tokens
    count, finish = most, "length"
    # The beginning of a digest does not depend on its length: one is enough where all that may be needed is short.
    said = key.digest(_LENGTH_BYTES + (begun + most if begun + most <= _SHORT_TOKENS else 0))
    if not sampling.ignore_eos:
        span = args.longest_answer - args.shortest_answer + 1
        drawn = int.from_bytes(said[:_LENGTH_BYTES], "little") % span
        until_eos = max(args.shortest_answer + drawn - begun, sampling.min_tokens, 0)
        if until_eos <= most:
            count, finish = until_eos, "stop"
    end = _LENGTH_BYTES + begun + count
    chosen = (said if len(said) >= end else key.digest(end))[_LENGTH_BYTES + begun : end]
    tokens = words.spell(chosen)
    if sampling.stop_token_ids:
        stops = frozenset(sampling.stop_token_ids)
        for place in range(max(sampling.min_tokens - 1, 0), count):
            if tokens[place] in stops:
                return Answer(tokens[: place + 1], "stop", chosen[: place + 1])
    return Answer(tokens, "stop" if finish == "stop" else "length", chosen)


def _bytes_of(tokens: list[Token]) -> bytes:
    words = array("I", tokens)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()

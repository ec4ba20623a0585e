"""Does the fast way do the same as the slow one? Asked once, at load, before the fast way is trusted.

In: a `tokenizers` tokenizer, and `fastokens` or a table of pieces. Out: the first difference in words, or None.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING, Any

from dyno_runtime.text.corpus import parity_corpus
from dyno_runtime.text.detokenize import detokenizer
from dyno_runtime.text.pieces import Pieces

if TYPE_CHECKING:
    import tokenizers

_RANDOM_SAMPLES = 200


def encoding_difference(slow: tokenizers.Tokenizer, fast: Any, texts: Iterable[str]) -> str | None:
    """Where the two first give other ids for one of `texts`, in words; None where they never do."""
    for text in texts:
        expected = slow.encode(text, add_special_tokens=False).ids
        shown = text if len(text) <= 40 else text[:40] + "…"
        try:
            got = fast.encode(text).ids
        except Exception as error:  # whatever it is, it is not the same ids
            return f"fastokens fails on {shown!r} ({error})"
        if got != expected:
            place = next(
                (place for place, pair in enumerate(zip(expected, got, strict=False)) if pair[0] != pair[1]),
                min(len(expected), len(got)),
            )
            pair = f"{expected[place : place + 3]}, fastokens {got[place : place + 3]}"
            return f"tokenizers and fastokens differ on {shown!r} from token {place} on: tokenizers {pair}"
    return None


def decoding_difference(slow: tokenizers.Tokenizer, pieces: Pieces, *, keep_special: bool) -> str | None:
    """Where the table first tells another text than the tokenizer's own decoder; None where it never does."""
    for ids in _samples(slow, pieces):
        one = detokenizer(pieces)
        told = "".join([one.feed([token]) for token in ids]) + one.flush()
        expected = slow.decode(ids, skip_special_tokens=not keep_special)
        if told != expected:
            return f"the table of tokens says {told[:40]!r} where tokenizers decode to {expected[:40]!r}"
    return None


def _samples(slow: tokenizers.Tokenizer, pieces: Pieces) -> list[list[int]]:
    """Ids of real texts, and random ones; no random bytes where broken characters are told in another way."""
    samples = [slow.encode(text, add_special_tokens=True).ids for text in parity_corpus()]
    random = Random(0)
    sayable = [
        token
        for token, piece in enumerate(pieces.table)
        if pieces.bad_bytes == "subpart" or isinstance(piece, str)
    ]
    samples += [random.choices(sayable, k=8) for _ in range(_RANDOM_SAMPLES if sayable else 0)]
    return samples

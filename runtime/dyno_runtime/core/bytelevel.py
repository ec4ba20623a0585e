"""The built-in tokenizer: one token per byte of UTF-8, for engines that come without a model folder."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from dyno_runtime.wire.messages import Token


def encode(text: str) -> list[Token]:
    """The tokens of a text.

    Raises:
        UnicodeEncodeError: the text holds half of a surrogate pair.
    """
    return list(text.encode())


class Decoder:
    """Tokens to text, piece by piece; a character is never split between two pieces."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, tokens: Sequence[Token], *, final: bool = False) -> str:
        """The text that these tokens complete."""
        return self._decoder.decode(bytes(tokens), final)

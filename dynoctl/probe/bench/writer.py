"""Prompts of so many tokens.

In: a source of randomness, a number. Out: text. With a model's tokenizer.json the words are such as it has as single
tokens; without one, a token is a byte.
"""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from typing import Protocol

from dynoctl.errors import UsageError

WORDS = (
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school",
    "state", "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week",
    "company", "system", "program", "question", "work", "government", "number", "night", "point", "home",
    "water", "room", "mother", "area", "money", "story", "fact", "month", "lot", "right", "study", "book",
    "eye", "job", "word", "business", "issue", "side", "kind", "head", "house",
)  # fmt: skip
_PIECE = re.compile(r"[Ġ▁ ][a-z]{2,9}")
_MOST_WORDS = 4096
_FEWEST_WORDS = 64


class Writer(Protocol):
    """Who writes prompts. `name` goes into the record."""

    @property
    def name(self) -> str: ...

    def write(self, random: Random, tokens: int) -> str:
        """A text of so many tokens."""


class ByteWriter:
    """A token is a byte."""

    name = "bytes"

    def write(self, random: Random, tokens: int) -> str:
        """Words, the last one cut."""
        text = " ".join(random.choices(WORDS, k=tokens // 4 + 1))
        while len(text) < tokens:
            text += " " + random.choice(WORDS)
        return text[:tokens]


class TokenWriter:
    """A token is what a tokenizer.json makes of text."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        file = folder / "tokenizer.json"
        if not file.is_file():
            raise UsageError(
                f"there is no tokenizer.json in {folder}",
                next="--tokenizer FOLDER, of the model that is served",
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # what the library raises has no class of its own
            raise UsageError(f"{file} is no tokenizer: {error}") from None
        self.name = str(folder)
        pieces = sorted(piece for piece in self._tokenizer.get_vocab() if _PIECE.fullmatch(piece))
        self._words = [piece[1:] for piece in pieces[:_MOST_WORDS]]
        if len(self._words) < _FEWEST_WORDS:
            self._words = list(WORDS)

    def write(self, random: Random, tokens: int) -> str:
        """Words until there are enough tokens; then cut to the very number, as the tokenizer counts."""
        text = " ".join(random.choices(self._words, k=tokens))
        while True:
            found = self._tokenizer.encode(text, add_special_tokens=False)
            if len(found.ids) >= tokens:
                break
            text += " " + " ".join(random.choices(self._words, k=tokens - len(found.ids)))
        # The end of the last token that is wanted, in the text itself: decoding could give another one.
        return text[: found.offsets[tokens - 1][1]] if tokens else ""

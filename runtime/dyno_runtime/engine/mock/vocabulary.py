"""Words that a model's own tokenizer has as single tokens, so that the mock engine's answers read well there, too.

In: `tokenizer.json` of a model folder. Out: 256 token ids of short lower-case words, found without any tokenizer
library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from dyno_runtime.engine.base import EngineError
from dyno_runtime.engine.mock.answer import Words

# How a tokenizer writes the space before a word: byte-level BPE, sentencepiece, and those that write none.
_MARKS = ("Ġ", "▁", "")
_WORD = re.compile(r"[a-z]{3,8}")
_COUNT = 256
_FEWEST = 32


class _Model(msgspec.Struct):
    vocab: dict[str, int] | list[tuple[str, float]]


class _Tokenizer(msgspec.Struct):
    model: _Model
    added_tokens: list[dict[str, Any]] = []


def words_of(folder: Path) -> Words:
    """The words of a model folder. Raises EngineError where it has no tokenizer.json with enough of them."""
    path = folder / "tokenizer.json"
    try:
        tokenizer = msgspec.json.decode(path.read_bytes(), type=_Tokenizer)
    except OSError as error:
        raise EngineError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except msgspec.DecodeError as error:
        raise EngineError(f"{path}: not a tokenizer: {error}") from error
    vocab = tokenizer.model.vocab
    pieces = vocab.items() if isinstance(vocab, dict) else ((piece, n) for n, (piece, _) in enumerate(vocab))
    added = {token.get("id") for token in tokenizer.added_tokens}
    return choose(((piece, number) for piece, number in pieces if number not in added), path)


def choose(pieces: Iterable[tuple[str, int]], path: Path) -> Words:
    """The first words of a vocabulary, the frequent ones in most. `path` is for the error."""
    found: dict[str, list[int]] = {mark: [] for mark in _MARKS}
    for piece, number in pieces:
        mark = piece[:1] if piece[:1] in ("Ġ", "▁") else ""
        if _WORD.fullmatch(piece, len(mark)):
            found[mark].append(number)
    for mark in _MARKS:
        if len(found[mark]) >= _FEWEST:
            first = sorted(found[mark])[:_COUNT]
            return Words([first[place % len(first)] for place in range(_COUNT)])
    most = max(len(numbers) for numbers in found.values())
    raise EngineError(f"{path}: {most} words are single tokens; the mock engine needs {_FEWEST} to speak")

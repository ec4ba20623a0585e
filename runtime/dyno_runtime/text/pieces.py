"""What each token id stands for: a table from id to text, or to bytes where the text is not whole characters.

In: a `tokenizers` tokenizer. Out: `Pieces`, or None where its decoder is not one that a table can follow (then
`detokenize.Window` asks the tokenizer itself). Covered are byte-level decoders (GPT-2, Llama 3, Qwen, DeepSeek),
Metaspace, and the sequence Replace, ByteFallback, Fuse, Strip (Llama 2, Mistral, Gemma).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Piece = str | bytes
BadBytes = Literal["subpart", "each"]  # what becomes one U+FFFD: a maximal broken part, or each byte


@dataclass(frozen=True, slots=True)
class Pieces:
    """One model's table. `""` is for ids that are skipped: special tokens, and ids without a token.

    `strips` spaces are taken off the beginning of an answer that does not continue a text; where `drops` is set,
    every one of that character is taken off its first token instead (and `raw` has the tokens as they are spelled).
    """

    table: list[Piece]
    bad_bytes: BadBytes = "subpart"
    strips: int = 0
    drops: str = ""
    raw: Mapping[int, str] | None = None

    def bytes_of(self, token: int) -> bytes:
        """The bytes of one token, for log-probabilities; none for an id that is skipped."""
        piece = self.table[token] if 0 <= token < len(self.table) else b""
        return piece if isinstance(piece, bytes) else piece.encode()


def byte_pieces() -> Pieces:
    """The table of the built-in tokenizer: one token a byte."""
    return Pieces([whole(bytes((one,))) for one in range(256)])


def whole(data: bytes) -> Piece:
    """The text where `data` is whole characters, else `data`."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def table_for(tokenizer: Tokenizer) -> Pieces | None:
    """The pieces of all tokens, special ones as they are spelled; None where the decoder is not known here."""
    decoder = msgspec.json.decode(tokenizer.decoder.__getstate__()) if tokenizer.decoder else {}
    tokens = {number: token for token, number in tokenizer.get_vocab(with_added_tokens=True).items()}
    tokens.update({number: one.content for number, one in tokenizer.get_added_tokens_decoder().items()})
    kind = decoder.get("type")
    if kind == "ByteLevel":
        return Pieces(_dense({number: _byte_level(token) for number, token in tokens.items()}))
    if kind == "Metaspace":
        return _metaspace(decoder, tokens)
    if kind == "Sequence":
        return _sequence(decoder["decoders"], tokens)
    return None


def skipping(pieces: Pieces, tokens: Iterable[int]) -> Pieces:
    """The same table with these tokens skipped."""
    table = list(pieces.table)
    for token in tokens:
        table[token] = ""
    return replace(pieces, table=table)


def special_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens that are no text."""
    return frozenset(number for number, one in tokenizer.get_added_tokens_decoder().items() if one.special)


# How many characters of a text become one, at most: no character is composed of more than four.
_SHRINKS = {"NFC": 4, "NFD": 1}


def longest_chars(tokenizer: Tokenizer) -> float:
    """The most characters of a text that one token can stand for.

    It is known of byte-level tokenizers that leave nothing of a text out: no normalizer that does, no splitting that
    removes what it splits at, no added token that swallows the spaces around it. Infinite for the others.
    """
    forms = _steps(tokenizer.normalizer, "normalizers")
    splits = _steps(tokenizer.pre_tokenizer, "pretokenizers")
    kinds = {one["type"] for one in splits}
    added = tokenizer.get_added_tokens_decoder().values()
    if (
        "ByteLevel" not in kinds
        or kinds - {"ByteLevel", "Digits", "Split"}
        or any(one.get("behavior") == "Removed" for one in splits)
        or any(one["type"] not in _SHRINKS for one in forms)
        or any(one.lstrip or one.rstrip for one in added)
    ):
        return math.inf
    longest = max(map(len, tokenizer.get_vocab(with_added_tokens=True)), default=1)
    return float(math.prod([longest, *(_SHRINKS[one["type"]] for one in forms)]))


def _steps(part: Any, several: str) -> list[dict[str, Any]]:
    """A part of a tokenizer as the list of its steps."""
    if part is None:
        return []
    document: dict[str, Any] = msgspec.json.decode(part.__getstate__())
    steps: list[dict[str, Any]] = document.get(several, [document])
    return steps


def _dense(pieces: Mapping[int, Piece]) -> list[Piece]:
    table: list[Piece] = [""] * (max(pieces, default=-1) + 1)
    for number, piece in pieces.items():
        table[number] = piece
    return table


def _alphabet() -> dict[str, int]:
    """Byte-level BPE spells a byte as a printable character: itself where that prints, else one above U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(one): one for one in printable}
    others = (one for one in range(256) if one not in printable)
    alphabet.update({chr(0x100 + place): one for place, one in enumerate(others)})
    return alphabet


_ALPHABET = _alphabet()


def _byte_level(token: str) -> Piece:
    """A token with a character outside the alphabet was added as plain text, and stands for itself."""
    try:
        return whole(bytes([_ALPHABET[char] for char in token]))
    except KeyError:
        return token


def _metaspace(decoder: dict[str, Any], tokens: dict[int, str]) -> Pieces:
    space = decoder["replacement"]
    table = _dense({number: token.replace(space, " ") for number, token in tokens.items()})
    if decoder.get("prepend_scheme", "always") == "never":
        return Pieces(table, bad_bytes="each")
    return Pieces(table, bad_bytes="each", drops=space, raw=tokens)


def _sequence(decoders: list[dict[str, Any]], tokens: dict[int, str]) -> Pieces | None:
    """Only in the order in which these decoders make sense; anything else is left to the tokenizer."""
    left = list(decoders)
    replaced: list[tuple[str, str]] = []
    while left and left[0]["type"] == "Replace" and isinstance(left[0]["pattern"].get("String"), str):
        one = left.pop(0)
        replaced.append((one["pattern"]["String"], one["content"]))
    falls_back = bool(left) and left[0]["type"] == "ByteFallback"
    if falls_back:
        left.pop(0)
    fused = bool(left) and left[0]["type"] == "Fuse"
    if fused:
        left.pop(0)
    strips = 0
    if fused and left and left[0]["type"] == "Strip" and left[0]["content"] == " " and not left[0]["stop"]:
        strips = left.pop(0)["start"]
    if left:
        return None
    pieces: dict[int, Piece] = {}
    for number, token in tokens.items():
        for old, new in replaced:
            token = token.replace(old, new)
        byte = _fallback_byte(token) if falls_back else None
        pieces[number] = token if byte is None else byte
    return Pieces(_dense(pieces), bad_bytes="each", strips=strips)


def _fallback_byte(token: str) -> bytes | None:
    """`<0x0A>` is the byte 10."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return bytes.fromhex(token[3:5])
        except ValueError:
            return None
    return None

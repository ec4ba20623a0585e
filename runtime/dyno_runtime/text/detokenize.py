"""Token ids to text, piece by piece: what is given out together equals decoding all ids at once.

In: the ids of one answer, in any portions. Out: the text that they complete; a character is never split, and special
tokens are skipped. No call into the tokenizer where a table (`pieces`) is known: one list look-up for a token.

Where byte tokens (`<0x..>`) do not make characters, each gives U+FFFD as soon as that is certain; `tokenizers` gives
up the whole run of byte tokens around it instead, which it can only do at the end.
"""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from dyno_runtime.text.pieces import Pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BAD = "\ufffd"
# A character that is still not whole after so many tokens never will be.
_WINDOW_TOKENS = 16


class Detokenizer(Protocol):
    """One answer's way to text."""

    def feed(self, tokens: Sequence[int]) -> str:
        """The text that these tokens complete."""

    def flush(self) -> str:
        """What is left at the end: U+FFFD for the bytes that made no character."""

    def fork(self) -> Detokenizer:
        """Another one at the same point."""


def detokenizer(pieces: Pieces, *, continues: bool = False) -> Detokenizer:
    """One for a new answer. `continues`: it goes on after a prompt, so that its first space stays."""
    if pieces.bad_bytes == "subpart":
        return ByteLevel(pieces)
    return Spelled(pieces, begun=continues)


class ByteLevel:
    """Bytes of all tokens run together, as byte-level BPE has it."""

    __slots__ = ("_pending", "_pieces", "_table")

    def __init__(self, pieces: Pieces, pending: bytes = b"") -> None:
        self._pieces = pieces
        self._table = pieces.table
        self._pending = pending

    def feed(self, tokens: Sequence[int]) -> str:
        if not self._pending:
            # A byte piece among the texts or an id beyond the table ends here, and is looked at below.
            try:
                if len(tokens) == 1:
                    piece = self._table[tokens[0]]
                    if piece.__class__ is str:
                        return piece
                else:
                    return "".join(map(self._table.__getitem__, tokens))  # type: ignore[arg-type]
            except (TypeError, IndexError):
                pass
        data = self._pending + b"".join(map(self._pieces.bytes_of, tokens))
        text, used = utf_8_decode(data, "replace", False)
        self._pending = data[used:]
        return text

    def flush(self) -> str:
        text, _ = utf_8_decode(self._pending, "replace", True)
        self._pending = b""
        return text

    def fork(self) -> ByteLevel:
        return ByteLevel(self._pieces, self._pending)


class Spelled:
    """Tokens spelled as text, some of them perhaps as single bytes; an answer's first space may be taken off."""

    __slots__ = ("_begun", "_left", "_pending", "_pieces", "_table")

    def __init__(self, pieces: Pieces, *, begun: bool) -> None:
        self._pieces = pieces
        self._table = pieces.table
        self._pending = b""
        self._begun = begun or not (pieces.strips or pieces.drops)
        self._left = pieces.strips

    def feed(self, tokens: Sequence[int]) -> str:
        if self._begun and not self._pending:
            try:
                return "".join(map(self._table.__getitem__, tokens))  # type: ignore[arg-type]
            except (TypeError, IndexError):
                pass
        out: list[str] = []
        for token in tokens:
            piece = self._table[token] if token < len(self._table) else ""
            if isinstance(piece, bytes):
                out.append(self._byte(piece))
            elif piece:
                out.append(self.flush())
                out.append(self._first(token, piece) if self._pieces.drops and not self._begun else piece)
        return self._stripped("".join(out))

    def _byte(self, byte: bytes) -> str:
        try:
            text, used = utf_8_decode(self._pending + byte, "strict", False)
        except UnicodeDecodeError:
            bad = BAD * len(self._pending)
            self._pending = b""
            return bad + (self._byte(byte) if bad else BAD)
        self._pending = b"" if used else self._pending + byte
        return text

    def _first(self, token: int, piece: str) -> str:
        assert self._pieces.raw is not None
        self._begun = True
        return self._pieces.raw[token].replace(self._pieces.drops, "")

    def _stripped(self, text: str) -> str:
        if not self._begun and not self._pieces.drops:
            stripped = text[: self._left].lstrip(" ") + text[self._left :]
            self._left -= len(text) - len(stripped)
            self._begun = bool(stripped) or not self._left
            return stripped
        return text

    def flush(self) -> str:
        bad = BAD * len(self._pending)
        self._pending = b""
        return bad

    def fork(self) -> Spelled:
        twin = Spelled(self._pieces, begun=self._begun)
        twin._pending, twin._left = self._pending, self._left
        return twin


class Window:
    """For every other tokenizer: decodes the last few tokens again and gives out what came to be."""

    __slots__ = ("_ids", "_said", "_skipped", "_tokenizer")

    def __init__(self, tokenizer: Tokenizer, skipped: frozenset[int] = frozenset()) -> None:
        self._tokenizer = tokenizer
        self._skipped = skipped
        self._ids: list[int] = []  # the tokens that the next text may depend on
        self._said = 0  # how many of them were given out

    def feed(self, tokens: Sequence[int]) -> str:
        return "".join([self._step(token) for token in tokens])

    def _step(self, token: int) -> str:
        # A skipped token says nothing and must not become the only context: what follows would look like a beginning.
        if token in self._skipped or self._tokenizer.id_to_token(token) is None:
            return ""
        self._ids.append(token)
        text = self._decode(self._ids)
        if text.endswith(BAD) and len(self._ids) - self._said < _WINDOW_TOKENS:
            return ""
        return self._give_out(text)

    def _give_out(self, text: str) -> str:
        new = text[len(self._decode(self._ids[: self._said])) :]
        self._ids = self._ids[self._said :]
        self._said = len(self._ids)
        return new

    def flush(self) -> str:
        return self._give_out(self._decode(self._ids)) if len(self._ids) > self._said else ""

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def fork(self) -> Window:
        twin = Window(self._tokenizer, self._skipped)
        twin._ids, twin._said = list(self._ids), self._said
        return twin

"""Text to token ids and back, for one model and the life of the process.

In: what `load` made of a model folder, or nothing for the built-in byte tokenizer. Out: a `Tokenizer`. `fastokens`
encodes where it was proved to do the same as `tokenizers`, some 50 times faster; else `tokenizers` does.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from dyno_runtime.text.detokenize import Detokenizer, Window, detokenizer
from dyno_runtime.text.pieces import Pieces, byte_pieces, special_ids

if TYPE_CHECKING:
    import tokenizers

# Above these the event loop should not wait. A usual text of that length takes 0.1 ms and 2 ms; the worst one, a
# single word without end, takes 100 times as long with fastokens.
LONG_CHARS_FAST = 50_000
LONG_CHARS = 8_000


class Tokenizer(Protocol):
    """One model's tokens."""

    name: str  # which implementation: fastokens, tokenizers or bytes
    vocab_size: int  # ids are below it
    eos_id: int | None  # the tokenizer's own, where it has one
    longest_chars: float  # no token stands for more of a text than this; infinite where that is not known

    def encode(self, text: str, *, add_special: bool = False) -> list[int]:
        """The ids of `text`, with the bos token and its like around where `add_special`.

        Special tokens that are spelled in the text become what they are. Raises UnicodeEncodeError where the text
        holds half of a surrogate pair.
        """

    async def encode_long(self, text: str, *, add_special: bool = False) -> list[int]:
        """The same, in a thread where the text is so long that the event loop should not wait."""

    def detokenizer(self, *, continues: bool = False, keep_special: bool = False) -> Detokenizer:
        """For one new answer. `continues`: it goes on after the prompt; `keep_special`: do not skip those tokens."""

    def bytes_of(self, token: int) -> bytes:
        """The bytes of one token; of a special one, its name."""

    def close(self) -> None:
        """Give the thread back."""


class ByteTokenizer:
    """A token for each byte of UTF-8."""

    name = "bytes"
    vocab_size = 256
    eos_id: int | None = None
    longest_chars: float = 1.0

    def __init__(self) -> None:
        self._pieces = byte_pieces()

    def encode(self, text: str, *, add_special: bool = False) -> list[int]:
        return list(text.encode())

    async def encode_long(self, text: str, *, add_special: bool = False) -> list[int]:
        return self.encode(text)

    def detokenizer(self, *, continues: bool = False, keep_special: bool = False) -> Detokenizer:
        return detokenizer(self._pieces, continues=continues)

    def bytes_of(self, token: int) -> bytes:
        return self._pieces.bytes_of(token)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Parts:
    """What a model folder's tokenizer is put together from. Nothing of it is changed later.

    `fast` is None where `tokenizers` has to encode; a table of pieces is None where it has to decode. `before` and
    `after` are the special ids around a text. `longest_chars` is as in `Tokenizer`.
    """

    slow: tokenizers.Tokenizer
    fast: Any | None
    pieces: Pieces | None
    pieces_with_special: Pieces | None
    before: list[int]
    after: list[int]
    eos_id: int | None
    longest_chars: float


class FolderTokenizer:
    """The tokenizer of a model folder; see the module."""

    def __init__(self, parts: Parts) -> None:
        slow, fast = parts.slow, parts.fast
        self.name = "tokenizers" if fast is None else "fastokens"
        self.vocab_size = max(slow.get_vocab(with_added_tokens=True).values()) + 1
        self.eos_id = parts.eos_id
        self.longest_chars = parts.longest_chars
        self._slow = slow
        self._fast = fast
        self._parts = parts
        self._before, self._after = parts.before, parts.after
        self._long_chars = LONG_CHARS if fast is None else LONG_CHARS_FAST
        self._thread = ThreadPoolExecutor(1, "dyno-encode")
        self._special = special_ids(slow)

    def encode(self, text: str, *, add_special: bool = False) -> list[int]:
        ids = self._ids(text, apart=False)
        return [*self._before, *ids, *self._after] if add_special else ids

    async def encode_long(self, text: str, *, add_special: bool = False) -> list[int]:
        if len(text) <= self._long_chars:
            return self.encode(text, add_special=add_special)
        loop = asyncio.get_running_loop()
        ids = await loop.run_in_executor(self._thread, lambda: self._ids(text, apart=True))
        return [*self._before, *ids, *self._after] if add_special else ids

    def _ids(self, text: str, *, apart: bool) -> list[int]:
        if self._fast is not None:
            try:
                return cast(list[int], self._fast.encode(text).ids)
            except UnicodeEncodeError:
                raise
            except (RuntimeError, ValueError):
                # Its regex engine has limits; the other one knows no such text.
                pass
        if apart:
            # Only the call for batches lets other threads run.
            return self._slow.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return self._slow.encode(text, add_special_tokens=False).ids

    def detokenizer(self, *, continues: bool = False, keep_special: bool = False) -> Detokenizer:
        pieces = self._parts.pieces_with_special if keep_special else self._parts.pieces
        if pieces is not None:
            return detokenizer(pieces, continues=continues)
        return Window(self._slow, frozenset() if keep_special else self._special)

    def bytes_of(self, token: int) -> bytes:
        pieces = self._parts.pieces_with_special
        if pieces is not None:
            return pieces.bytes_of(token)
        return self._slow.decode([token], skip_special_tokens=False).encode()

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

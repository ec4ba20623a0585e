"""What a script prints, taken in piece by piece: kept within a bound, cut into lines, freed of foreign noise.

In: chunks of bytes of one stream. Out: the whole as bytes, and each line to a callback as soon as it is whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

KEEP_BYTES = 64_000_000
LINE_BYTES = 1_000_000
NOISE_BYTES = 1_000_000


class TooMuch(Exception):
    """The stream grew past its bound; the message is a part of a sentence: `printed more than 64 MB`."""


class ReaderFailed(Exception):
    """`on_line` raised; `cause` is what it raised, kept apart from what goes wrong with the node itself."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Capture:
    """One stream. With `mark`, everything up to the line that ends in it is noise of the login shell, and dropped.

    Where each line goes to `on_line`, the stream may be endless: then only its last `keep_bytes` are kept. Without
    it, more than `keep_bytes` is an error, because a reader of half an answer would be misled.
    """

    def __init__(
        self,
        *,
        mark: bytes = b"",
        on_line: Callable[[str], None] | None = None,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        self._mark = mark + b"\n" if mark else b""
        self.noise = b""
        self._on_line = on_line
        self._line = b""
        self._chunks: deque[bytes] = deque()
        self._size_bytes = 0
        self._keep_bytes = keep_bytes

    @property
    def begun(self) -> bool:
        """Whether the script itself has started to run."""
        return not self._mark

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes in. Raises TooMuch, ReaderFailed."""
        if self._mark:
            chunk = self._drop_noise(chunk)
        if not chunk:
            return
        self._chunks.append(chunk)
        self._size_bytes += len(chunk)
        if self._on_line is not None:
            self._cut_lines(chunk)
        self._bound()

    def finish(self) -> bytes:
        """The stream ended: hand out a last line without a newline, and return everything that was kept."""
        if self._on_line is not None and self._line:
            self._tell(self._line)
            self._line = b""
        return b"".join(self._chunks)

    def _drop_noise(self, chunk: bytes) -> bytes:
        self.noise += chunk
        before, found, after = self.noise.partition(self._mark)
        if found:
            self.noise, self._mark = before, b""
            return after
        if len(self.noise) > NOISE_BYTES:
            raise TooMuch("printed more than 1 MB before the script began")
        return b""

    def _cut_lines(self, chunk: bytes) -> None:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            line, self._line = self._line + line, b""
            self._tell(line)
        self._line += rest
        if len(self._line) > LINE_BYTES:  # no newline in sight: the bound counts more than the line
            line, self._line = self._line, b""
            self._tell(line)

    def _tell(self, line: bytes) -> None:
        if self._on_line is None:
            return
        try:
            self._on_line(line.decode(errors="replace"))
        except Exception as error:
            raise ReaderFailed(error) from error

    def _bound(self) -> None:
        if self._size_bytes <= self._keep_bytes:
            return
        if self._on_line is None:
            raise TooMuch(f"printed more than {self._keep_bytes / 1e6:g} MB")
        while self._size_bytes > self._keep_bytes and len(self._chunks) > 1:
            self._size_bytes -= len(self._chunks.popleft())

"""Verb `logs`: the last lines of units' logs, and with `follow` what is written from now on.

In: `{"units": [folders…], "lines": 100, "follow": false}`. Out: `{"unit": …, "line": …}`, unit by unit, then in the
order of writing. A log that is rotated is followed into its successor, each line once. Ends once nobody reads.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dyno_node import log
from dyno_node.request import Request, number, texts
from dyno_node.unit import UnitDir

LOOK_S = 0.1
CHUNK_BYTES = 1 << 20
LINE_BYTES = 1000  # what a long line takes: so much is read for each that is asked for
MIN_TAIL_BYTES, MAX_TAIL_BYTES = 64 * 1024, 16 << 20


def logs(request: Request, output: int = 1) -> Iterator[dict[str, Any]]:
    """Yield the lines. `output` is the descriptor that they go to: when its reader is gone, we are done."""
    lines = int(number(request, "lines", 100))
    max_bytes = min(MAX_TAIL_BYTES, max(MIN_TAIL_BYTES, lines * LINE_BYTES))
    places = [UnitDir.at(each) for each in texts(request, "units")]
    followed = [Followed(place) for place in places] if request.get("follow") else []
    try:
        for number_, place in enumerate(places):
            last = (
                followed[number_].last(lines, max_bytes)
                if followed
                else log.tail(place.log, lines, max_bytes)
            )
            for line in last if lines else ():
                yield {"unit": place.path.name, "line": line}
        yield from _follow(followed, output)
    finally:
        for each in followed:
            each.close()


def _follow(followed: list[Followed], output: int) -> Iterator[dict[str, Any]]:
    poll = select.poll()
    poll.register(output, 0)  # no event asked for: only an error or a hang-up is reported
    while followed and not poll.poll(LOOK_S * 1000):
        for each in followed:
            for line in each.more():
                yield {"unit": each.name, "line": line}


class Followed:
    """One log from its present end on.

    A rotation copies the front of the log to `log.1` and cuts it off (see `log`), so afterwards what was read up to
    some byte is read up to that byte less the size of `log.1`.
    """

    def __init__(self, place: UnitDir) -> None:
        self.name = place.path.name
        self._path = place.log
        self._old_path = place.log.with_name(f"{place.log.name}.1")
        self._old = _identity(self._old_path)
        self._waited = False
        self._file: BinaryIO | None = None
        self._rest = b""
        self._open(os.SEEK_END)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def last(self, lines: int, max_bytes: int) -> list[str]:
        """The last whole lines up to here; `more` goes on behind them."""
        if self._file is None:
            return []
        end = self._file.tell()
        text = os.pread(self._file.fileno(), min(end, max_bytes), max(0, end - max_bytes))
        text, newline, self._rest = text.rpartition(b"\n")
        whole = (text + newline).decode(errors="replace").splitlines()
        missing = lines - len(whole)
        if missing > 0 and end < max_bytes:
            whole = log.tail(self._old_path, missing, max_bytes - end) + whole
        return whole[-lines:] if lines else []

    def more(self) -> Iterator[str]:
        """The whole lines that were written since."""
        if self._file is None:
            self._open(os.SEEK_SET)
        if self._file is None:
            return
        newest = _identity(self._old_path)
        if newest not in (None, self._old):
            # The copy is there a moment before the cut. A log that is still longer than its copy is given one more
            # look; after that it has grown again.
            if not self._is_shorter_than_its_copy() and not self._waited:
                self._waited = True
                return
            self._waited, self._old = False, newest
            yield from self._over_the_cut()
        yield from self._lines(self._file)
        if self._replaced():
            self._open(os.SEEK_SET)
            if self._file is not None:
                yield from self._lines(self._file)

    def _open(self, whence: int) -> None:
        self.close()
        try:
            self._file = self._path.open("rb", buffering=0)
        except OSError:
            self._file = None
            return
        self._file.seek(0, whence)

    def _lines(self, file: BinaryIO) -> Iterator[str]:
        while chunk := file.read(CHUNK_BYTES):
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)

    def _is_shorter_than_its_copy(self) -> bool:
        assert self._file is not None
        return os.fstat(self._file.fileno()).st_size < log.size_bytes(self._old_path)

    def _over_the_cut(self) -> Iterator[str]:
        assert self._file is not None
        at = self._file.tell()
        with self._old_path.open("rb", buffering=0) as old:
            size = old.seek(0, os.SEEK_END)
            old.seek(min(at, size))
            yield from self._lines(old)
        self._file.seek(max(0, at - size))

    def _replaced(self) -> bool:
        """Whether the name means another file now, or this one was cut and nothing of it kept."""
        if self._file is None:
            return False
        try:
            now = self._path.stat()
        except OSError:
            return False
        mine = os.fstat(self._file.fileno())
        if (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino):
            return True
        return now.st_size < self._file.tell() and _identity(self._old_path) == self._old


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from its successor: the next `log.1` is made while this one is still there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)

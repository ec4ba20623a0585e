"""Verb `logs`: the last lines of units' logs, and with `follow` what is written from now on.

In: `{"units": [folders…], "lines": 100, "follow": false}`. Out: `{"unit": …, "line": …}`, unit by unit, then in the
order of writing. A log that is rotated is followed into its successor. Ends once nobody reads any more.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from typing import Any, BinaryIO

from dyno_node import log
from dyno_node.request import Request, number, texts
from dyno_node.unit import UnitDir

LOOK_S = 0.1
CHUNK_BYTES = 1 << 20


def logs(request: Request, output: int = 1) -> Iterator[dict[str, Any]]:
    """Yield the lines. `output` is the descriptor that they go to: when its reader is gone, we are done."""
    lines = int(number(request, "lines", 100))
    places = [UnitDir.at(each) for each in texts(request, "units")]
    followed = [Followed(place) for place in places] if request.get("follow") else []
    for place in places:
        for line in log.tail(place.log, lines) if lines else ():
            yield {"unit": place.path.name, "line": line}
    poll = select.poll()
    poll.register(output, 0)  # no event asked for: only an error or a hang-up is reported
    while followed and not poll.poll(LOOK_S * 1000):
        for each in followed:
            for line in each.more():
                yield {"unit": each.name, "line": line}


class Followed:
    """One log from its present end on."""

    def __init__(self, place: UnitDir) -> None:
        self.name = place.path.name
        self._path = place.log
        self._file: BinaryIO | None = None
        self._rest = b""
        self._open(os.SEEK_END)

    def more(self) -> Iterator[str]:
        """The whole lines that were written since."""
        yield from self._read()
        if self._replaced():
            yield from self._read()  # what came between our last read and the rotation
            self._open(os.SEEK_SET)
            yield from self._read()

    def _open(self, whence: int) -> None:
        if self._file is not None:
            self._file.close()
        try:
            self._file = self._path.open("rb", buffering=0)
        except OSError:
            self._file = None
            return
        self._file.seek(0, whence)

    def _read(self) -> Iterator[str]:
        if self._file is None:
            self._open(os.SEEK_SET)
        while self._file is not None and (chunk := self._file.read(CHUNK_BYTES)):
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)

    def _replaced(self) -> bool:
        """Whether the name means another file now, or this one was cut to nothing."""
        if self._file is None:
            return False
        try:
            now = self._path.stat()
        except OSError:
            return False
        mine = os.fstat(self._file.fileno())
        return (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino) or now.st_size < self._file.tell()

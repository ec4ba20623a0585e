"""Verb `logs`: the last lines of units' logs, and with `follow` what is written from now on.

In: `{"units": [folders…], "lines": 100, "follow": false}`. Out: `{"unit": …, "line": …}`, unit by unit, then in the
order of writing. A log that is rotated is followed through it. Ends once nobody reads any more.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
        self._at = log.size_bytes(place.log)
        self._old = _inode(log.old(place.log, 1))
        self._rest = b""

    def more(self) -> Iterator[str]:
        """The whole lines that were written since."""
        try:
            file = self._path.open("rb", buffering=0)
        except OSError:
            return
        with file:
            if not log.hold_still(file.fileno()):
                return  # it is being rotated: next time
            self._rotated()
            if self._at > os.fstat(file.fileno()).st_size:
                self._at = 0  # emptied by somebody else
            file.seek(self._at)
            chunk = file.read(CHUNK_BYTES)
            self._at += len(chunk)
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)

    def _rotated(self) -> None:
        """After a rotation, the front of the log is in the part before: what we had not read yet is there."""
        before = log.old(self._path, 1)
        if (now := _inode(before)) == self._old:
            return
        self._old = now
        moved = log.size_bytes(before)
        if self._at < moved:
            with before.open("rb") as file:
                file.seek(self._at)
                self._rest += file.read()
        self._at = max(0, self._at - moved)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None

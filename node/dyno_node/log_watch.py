"""When to look at a log's size, and rotating it when it is due: often while it grows fast, seldom while it rests.

In: a log and its limits. Out: how long the supervisor may wait before the next turn.
"""

from __future__ import annotations

import time
from pathlib import Path

from dyno_node import log
from dyno_node.unit import Log

LONGEST_S = 1.0
SHORTEST_S = 0.05
AFTER_FAILURE_S = 30.0


class LogWatch:
    """The rotation of one log."""

    def __init__(self, path: Path, limits: Log) -> None:
        self._path = path
        self._limits = limits
        self._size_bytes = 0
        self._at_s = time.monotonic()
        self._not_before_s = 0.0

    def turn(self) -> float:
        """Rotate if it is due. Returns seconds until the next turn: about when the log will be full at its pace."""
        now_s = time.monotonic()
        size_bytes = log.size_bytes(self._path)
        if size_bytes > self._limits.max_bytes > 0 and now_s >= self._not_before_s:
            try:
                log.rotate(self._path, self._limits.keep)
            except OSError:
                self._not_before_s = now_s + AFTER_FAILURE_S  # disk full: the log stays as it is
            size_bytes = log.size_bytes(self._path)
        grown_bytes, passed_s = size_bytes - self._size_bytes, now_s - self._at_s
        self._size_bytes, self._at_s = size_bytes, now_s
        if grown_bytes <= 0:
            return LONGEST_S
        full_in_s = (self._limits.max_bytes - size_bytes) * passed_s / grown_bytes
        return min(LONGEST_S, max(SHORTEST_S, full_in_s))

"""Time that passes only when somebody says so. In: what shall happen, and when. Out: it happens, in order."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Clock:
    """Events at the same time happen in the order in which they were planned."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._count = 0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def after(self, wait_s: float, do: Callable[..., None], *args: Any) -> None:
        """Call `do(*args)` in this much time."""
        self._count += 1
        heappush(self._events, (self.now_s + wait_s, self._count, do, args))

    def run(self, until_s: float, unless: Callable[[], bool] = lambda: False) -> None:
        """Let everything happen up to that time, or until `unless()` holds."""
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, do, args = heappop(self._events)
            do(*args)
            if unless():
                return
        self.now_s = until_s

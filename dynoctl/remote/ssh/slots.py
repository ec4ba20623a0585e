"""How many sessions a connection holds at the same time: sshd's MaxSessions, by default 10, learnt where it is less.

In: callers that want a session. Out: each gets its turn, or learns that its deadline passed first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dynoctl.remote.deadline import Deadline

SESSIONS = 10


class Slots:
    """A bound that only ever falls, down to one."""

    def __init__(self, limit: int = SESSIONS) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def one(self, deadline: Deadline) -> Iterator[None]:
        """Hold a session's place. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._taken < self._limit, deadline.left_s()):
                raise TimeoutError
            self._taken += 1
        try:
            yield
        finally:
            with self._changed:
                self._taken -= 1
                self._changed.notify()

    def refused(self) -> bool:
        """The far end refused a session while we hold this one's place: True where waiting for another may help."""
        with self._changed:
            others = self._taken - 1
            if others > 0:
                self._limit = max(1, min(self._limit, others))
            return others > 0

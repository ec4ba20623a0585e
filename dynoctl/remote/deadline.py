"""How long is waited: a point in time by which something must have ended, and patience with a silent far end.

In: seconds from now. Out: seconds that are left, never below zero. A Deadline is passed down through calls, so that
the parts of a whole share one bound.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """`at` is on the monotonic clock; `after_s` is kept for messages."""

    at: float
    after_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline that many seconds from now."""
        return cls(time.monotonic() + seconds, seconds)

    def left_s(self, *, at_most: float | None = None) -> float:
        """Seconds until the deadline, 0 once it has passed, `at_most` where that is less."""
        left = max(0.0, self.at - time.monotonic())
        return left if at_most is None else min(left, at_most)

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() >= self.at


@dataclass(frozen=True, slots=True)
class Patience:
    """With a far end that holds the connection and is silent: after `quiet_s` it is asked, `answer_s` it has."""

    quiet_s: float = 5.0
    answer_s: float = 15.0


PATIENCE = Patience()


def seconds(count_s: float) -> str:
    """`10 s`, `0.5 s`: for messages."""
    return f"{count_s:g} s"

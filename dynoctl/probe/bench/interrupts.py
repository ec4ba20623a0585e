"""Ctrl-C, and what else asks a process to end, noted instead of raised: a benchmark ends where it is and keeps what
it has, and a tool is not left behind.

In: nothing. Out: whether it was pressed, and a call when it is.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Whether it was pressed since the beginning."""

    def __init__(self) -> None:
        self.pressed = False
        self._call: Callable[[], object] = lambda: None

    def then(self, call: Callable[[], object]) -> None:
        """Call this when it is pressed; at once, if it was already."""
        self._call = call
        if self.pressed:
            call()

    def note(self, *_: object) -> None:
        """It was pressed."""
        self.pressed = True
        self._call()


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupts]:
    """For as long as this lasts. Only the main thread may. SIGHUP that is ignored, as under `nohup`, stays so. Within
    another one, what was pressed there counts."""
    noted = Interrupts()
    around = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    noted.pressed = isinstance(around, Interrupts) and around.pressed
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    heard = [one for one in ASKED if one is not signal.SIGHUP or not ignored]
    before = [(one, signal.signal(one, noted.note)) for one in heard]
    try:
        yield noted
    finally:
        for one, handler in before:
            signal.signal(one, handler)

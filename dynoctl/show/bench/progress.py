"""Progress of a benchmark: a bar with the live rate on a terminal, a line now and then elsewhere.

In: how many requests are answered. Out: text on standard error.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from dynoctl.show.bench.table import number
from dynoctl.show.terminal import Terminal

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

EVERY_S = 5.0


class Progress(Protocol):
    """Who is told. Entered for the time that the work takes."""

    def begin(self, label: str) -> None:
        """A point begins."""

    def update(self, warming: bool, done: int, total: int, tokens: int) -> None:
        """So many of its requests are answered."""

    def note(self, line: str) -> None:
        """Something else worth a line."""

    def __enter__(self) -> Progress: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def progress(terminal: Terminal) -> Progress:
    """The one that fits where standard error goes."""
    return BarProgress(terminal) if terminal.live else LineProgress(terminal)


class Rate:
    """Requests and tokens a second since the phase began."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start: tuple[bool, float] | None = None

    def words(self, warming: bool, done: int, tokens: int) -> str:
        """`12.5 req/s, 1,875 tok/s`; nothing while nothing is known."""
        now_s = self._clock()
        if self._start is None or self._start[0] != warming:
            self._start = (warming, now_s)
        if not done:
            return ""
        past_s = now_s - self._start[1]
        if past_s <= 0:
            return ""
        said = f"{number(done / past_s)} req/s"
        return f"{said}, {number(tokens / past_s)} tok/s" if tokens else said


class LineProgress:
    """Plain lines, for logs and pipes."""

    def __init__(self, terminal: Terminal, clock: Callable[[], float] = time.monotonic) -> None:
        self._terminal = terminal
        self._clock = clock
        self._rate = Rate(clock)
        self._label = ""
        self._said_s = clock()

    def __enter__(self) -> LineProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def begin(self, label: str) -> None:
        self._label = label
        self._rate = Rate(self._clock)
        self._said_s = self._clock()
        self._terminal.say(f"{label}: started")

    def update(self, warming: bool, done: int, total: int, tokens: int) -> None:
        rate = self._rate.words(warming, done, tokens)
        if self._clock() - self._said_s < EVERY_S:
            return
        self._said_s = self._clock()
        what = "warm-up" if warming else "requests"
        self._terminal.say(f"{self._label}: {what} {done} of {total}" + (f", {rate}" if rate else ""))

    def note(self, line: str) -> None:
        self._terminal.say(line)


class BarProgress:
    """A bar a point; finished ones stay."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._rate = Rate()
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> BarProgress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rate]}"),
            console=self._terminal.err,
            refresh_per_second=4,
        )
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._bar is not None
        self._bar.__exit__(kind, error, trace)

    def begin(self, label: str) -> None:
        assert self._bar is not None
        self._rate = Rate()
        self._label = label
        self._task = self._bar.add_task(label, total=None, rate="")

    def update(self, warming: bool, done: int, total: int, tokens: int) -> None:
        assert self._bar is not None
        if self._task is not None:
            rate = self._rate.words(warming, done, tokens)
            what = f"{self._label}, warm-up" if warming else self._label
            self._bar.update(self._task, description=what, completed=done, total=total or None, rate=rate)

    def note(self, line: str) -> None:
        self._terminal.say(line)

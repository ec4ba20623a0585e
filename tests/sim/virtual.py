"""An event loop whose time passes only when nobody has anything to do: seconds of waiting cost nothing, and a seed is
played the same way each time.

In: a story, an `async def` that takes a seed; seeds. Out: they end well, or an AssertionError names the seed.
`python -m tests.sim.virtual MODULE STORY SEED` plays one again.
"""

from __future__ import annotations

import asyncio
import importlib
import selectors
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

Story = Callable[[int], Coroutine[Any, Any, Any]]


class _Selector(selectors.SelectSelector):
    """Never waits; moves the clock on instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found:
            assert timeout is not None, "everybody waits, and nothing will ever happen"
            self.now_s += max(timeout, 0.0)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. Nothing from outside may be waited for: no sockets, no threads."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now_s


def tell(story: Story, seed: int) -> Any:
    """What the story returns."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story(seed))


def play(story: Story, seeds: Iterable[int]) -> None:
    """Tell it once for each seed."""
    for seed in seeds:
        try:
            tell(story, seed)
        except Exception as error:
            again = f"python -m tests.sim.virtual {story.__module__} {story.__name__} {seed}"
            raise AssertionError(f"seed {seed}: {type(error).__name__} {error}; again: {again}") from error


if __name__ == "__main__":
    module, name, number = sys.argv[1:]
    tell(getattr(importlib.import_module(module), name), int(number))
    print(f"seed {number}: everything holds")

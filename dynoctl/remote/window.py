"""One thing done on many nodes at once, through a sliding window: a slow node delays nobody but itself.

In: nodes, what to do on each, how many at a time. Out: each node with its result or its error, as they end.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from dynoctl.errors import DynoctlError

WINDOW = 32

N = TypeVar("N")
T = TypeVar("T")


def over(
    nodes: Iterable[N], do: Callable[[N], T], *, window: int = WINDOW
) -> Iterator[tuple[N, T | DynoctlError]]:
    """Call `do(node)` for each node on at most `window` threads; yield each node as it ends.

    A DynoctlError is yielded in place of a result; any other exception is a mistake of ours, ends the whole and
    is raised here. `do` bounds its own time: every call on a connection takes a time-out.

    When the caller stops early (Ctrl-C, `close()` on the iterator, an exception), no further node is started. Calls
    that are under way end when their connections are closed; their threads never keep the process alive.
    """
    waiting = deque(nodes)
    ended: queue.SimpleQueue[tuple[N, T | BaseException]] = queue.SimpleQueue()
    stopped = threading.Event()
    count = len(waiting)

    def work() -> None:
        while not stopped.is_set():
            try:
                node = waiting.popleft()
            except IndexError:
                return
            try:
                ended.put((node, do(node)))
            except BaseException as error:
                ended.put((node, error))

    try:
        for number in range(min(window, count)):
            threading.Thread(target=work, name=f"window-{number}", daemon=True).start()
        for _ in range(count):
            node, outcome = ended.get()
            if isinstance(outcome, BaseException) and not isinstance(outcome, DynoctlError):
                raise outcome
            yield node, outcome
    finally:
        stopped.set()

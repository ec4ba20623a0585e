"""The end of a unit: its main process is asked first, the others after it, then all that is left is killed.

In: a way to find the unit's processes. Out: what is still there, which should be nothing. Used by the
supervisor for its own unit, and by `stop` and `sweep` where no supervisor lives.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dyno_node import cgroup, proc

LAST_GRACE_S = 1.0  # for the others once the main process is gone
HARD_S = 10.0  # for the kernel to carry out SIGKILL; a process may hang in a device for longer
_ROUND_S = 0.2


def end(
    find: Callable[[], list[proc.Process]],
    main: proc.Process | None,
    *,
    grace_s: float,
    group: str | None = None,
    reap: Callable[[], None] = lambda: None,
    hard_s: float = HARD_S,
) -> list[proc.Process]:
    """End every process that `find` finds; returns those that even SIGKILL did not end.

    Order: SIGTERM to `main` alone and up to `grace_s` for it, because it may need its helpers to drain; then
    SIGTERM to the rest and up to `LAST_GRACE_S`; then SIGKILL, again and again, until a look finds nobody (a process
    may fork while we kill). `reap` collects our own dead children. Takes at most grace_s + LAST_GRACE_S + hard_s.
    """
    if main is not None:
        _ask([main])
        proc.wait_gone([main], grace_s)
        reap()
    rest = find()
    _ask(rest)
    proc.wait_gone(rest, min(grace_s, LAST_GRACE_S))
    deadline = time.monotonic() + hard_s
    while rest := find():
        cgroup.kill(group)
        for process in rest:
            proc.send(process, signal.SIGKILL)
        proc.wait_gone(rest, _ROUND_S)
        reap()
        if time.monotonic() >= deadline:
            return find()
    cgroup.remove(group)
    return []


def _ask(processes: Iterable[proc.Process]) -> None:
    for process in processes:
        proc.send(process, signal.SIGTERM)
        proc.send(process, signal.SIGCONT)  # a stopped process sees no SIGTERM before it goes on


def left(processes: Sequence[proc.Process]) -> list[dict[str, Any]]:
    """What the user has to know of processes that would not end: pid, command line, and why."""
    return [{"pid": each.pid, "argv": proc.argv(each.pid), "why": _why(each)} for each in processes]


def _why(process: proc.Process) -> str:
    try:
        fd = proc.pidfd(process)
        if fd is None:
            return "it ended just now"
        try:
            signal.pidfd_send_signal(fd, 0)
        finally:
            os.close(fd)
    except PermissionError:
        return "it belongs to another user, whom we may not signal"
    except OSError:
        pass
    return "SIGKILL was sent and the kernel has not carried it out yet"

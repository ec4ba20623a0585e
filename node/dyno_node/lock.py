"""Locks that die with their holder: flock on a file, with a note inside that says who holds it.

In: a path. Out: a held `Lock`, or who holds it. The kernel lets go when the holder ends in whatever way, so a
lock is never stale; the note is trusted only while the lock is held.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from dyno_node import clock

_RETRY_S = 0.02


class Lock:
    """One held lock; `release` or the end of the process lets go."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def note(self, value: dict[str, Any]) -> None:
        """Write down who holds it. In place, because another file under this name would be another lock."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(value).encode(), 0)

    def release(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self.release()


def take(path: Path, timeout_s: float) -> Lock | None:
    """Hold `path` alone; None when somebody else held it for all of `timeout_s`.

    Raises:
        OSError: the folder is not there, or its file system has no locks.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + timeout_s
    while not _try(fd, fcntl.LOCK_EX):
        if time.monotonic() >= deadline:
            os.close(fd)
            return None
        time.sleep(_RETRY_S)  # flock has no time-out of its own
    os.ftruncate(fd, 0)  # the note of whoever held it before
    return Lock(fd)


def holder(path: Path) -> dict[str, Any] | None:
    """The note of whoever holds `path` ({} where it is not written yet), or None while nobody does.

    Looking takes a shared lock for a moment, which is why `take` tries more than once.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _try(fd, fcntl.LOCK_SH):
            return None
        try:
            note = json.loads(os.read(fd, 4096))
        except ValueError:
            return {}
        if not isinstance(note, dict) or note.get("boot_id", clock.boot_id()) != clock.boot_id():
            return {}  # of an earlier boot: its pid is somebody else's now
        return note
    finally:
        os.close(fd)


@contextmanager
def guard(path: Path) -> Iterator[None]:
    """Hold a lock that is there only while somebody needs it, for however long that takes."""
    fd = sole(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while we hold it: whoever waits for it looks whether it is still there
        os.close(fd)


def sole(path: Path) -> int:
    """The file, open for writing and ours alone until it is closed, renamed or removed.

    Raises:
        OSError: it cannot be made: no space, no permission.
    """
    while True:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        except FileNotFoundError:
            pass
        os.close(fd)  # whoever had it before us has renamed or removed it meanwhile


def _try(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

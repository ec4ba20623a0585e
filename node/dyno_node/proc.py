"""Processes as the kernel tells them: who is alive, whose child, what they used; and signals to nobody else.

In: pids. Out: values read from /proc. A pid is reused, so a process is named by pid and starttime (field 22 of
its stat, in clock ticks after boot), and a signal is sent through a pidfd after comparing both.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.02  # only where the kernel has no pidfd
TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, order=True)
class Process:
    """One process of this boot, for good."""

    pid: int
    starttime: int


@dataclass(frozen=True, slots=True)
class Stat:
    """One line of /proc/PID/stat, as far as we use it. `cpu_s`: user and system seconds used."""

    process: Process
    parent: int
    dead: bool
    cpu_s: float


def stat_of(pid: int) -> Stat | None:
    """What the kernel says of `pid`, or None when there is none."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in brackets and may hold spaces and brackets: count from the last one.
    words = line[line.rindex(b")") + 2 :].split()
    return Stat(
        process=Process(pid, int(words[19])),
        parent=int(words[1]),
        dead=words[0] in (b"Z", b"X"),
        cpu_s=(int(words[11]) + int(words[12])) * TICK_S,
    )


def own() -> Process:
    """This process."""
    stat = stat_of(os.getpid())
    assert stat is not None
    return stat.process


def alive(process: Process) -> bool:
    """True while this very process runs; a zombie is dead."""
    stat = stat_of(process.pid)
    return stat is not None and stat.process == process and not stat.dead


def snapshot() -> dict[int, Stat]:
    """Every process that can be seen, zombies too."""
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    return {pid: stat for pid in pids if (stat := stat_of(pid)) is not None}


def descendants(of: int, stats: dict[int, Stat]) -> list[Stat]:
    """All processes below `of`, nearest first, without it."""
    children: dict[int, list[Stat]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat)
    found: list[Stat] = []
    todo = [of]
    while todo:
        below = children.pop(todo.pop(), [])
        found.extend(below)
        todo.extend(stat.process.pid for stat in below)
    return found


def environ(pid: int) -> dict[str, str]:
    """The environment that `pid` was started with; empty when it is gone or another user's."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition("=") for entry in raw.decode(errors="replace").split("\0"))
    return {name: value for name, equals, value in pairs if equals}


def argv(pid: int, longest: int = 120) -> str:
    """The command line of `pid` in one line, shortened."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        raw = b""
    text = raw.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return text if len(text) <= longest else text[: longest - 1] + "…"


def io_bytes(pid: int) -> int:
    """Bytes that `pid` had fetched from and sent to storage; 0 when that cannot be read."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    counts = dict(line.split(": ") for line in lines)
    return int(counts.get("read_bytes", 0)) + int(counts.get("write_bytes", 0))


def pidfd(process: Process) -> int | None:
    """A file descriptor that gets readable when this very process ends; None if it is gone already.

    Raises:
        OSError: ENOSYS on a kernel before 5.3.
    """
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # Compared after opening: from here on the descriptor cannot come to mean another process.
    if alive(process):
        return fd
    os.close(fd)
    return None


def send(process: Process, signum: int) -> bool:
    """Signal this very process and nobody else; False when it is gone or may not be signalled."""
    try:
        fd = pidfd(process)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return alive(process) and _kill(process.pid, signum)
    if fd is None:
        return False
    try:
        signal.pidfd_send_signal(fd, signum)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(fd)
    return True


def _kill(pid: int, signum: int) -> bool:
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def wait_gone(processes: Iterable[Process], timeout_s: float) -> list[Process]:
    """Wait until all have ended, at most `timeout_s`; returns those that still run."""
    deadline = time.monotonic() + timeout_s
    running = [each for each in processes if alive(each)]
    while running and (left_s := deadline - time.monotonic()) > 0:
        _wait_for_one(running, left_s)
        running = [each for each in running if alive(each)]
    return running


def _wait_for_one(processes: Sequence[Process], timeout_s: float) -> None:
    poll = select.poll()
    with ExitStack() as stack:
        try:
            for process in processes:
                if (fd := pidfd(process)) is None:
                    return
                stack.callback(os.close, fd)
                poll.register(fd, select.POLLIN)
        except OSError:  # No pidfd in this kernel, or too many processes for our descriptors.
            timeout_s = min(timeout_s, POLL_S)
        poll.poll(timeout_s * 1000)

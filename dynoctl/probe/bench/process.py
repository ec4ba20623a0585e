"""A tool of others as a process: started, watched, ended. What it says goes to a file.

In: a command, what counts as a sign of life. Out: an `Ended`, with the CPU that each of its processes used over time.
It runs in a session of its own, so that a Ctrl-C reaches it only as we pass it on.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dynoctl.errors import DynoctlError
from dynoctl.probe.bench.interrupts import Interrupts, interrupts
from dynoctl.probe.bench.store import writing

LOOK_S = 0.25
GRACE_S = 20.0
LOG = "tool.log"
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass
class Ended:
    """How it ended. `cpu` holds the CPU seconds of each process so far, by the wall clock in nanoseconds."""

    code: int
    interrupted: bool = False
    stuck: bool = False
    cpu: list[tuple[int, dict[int, float]]] = field(default_factory=list)

    def busiest(self, window_ns: tuple[int, int]) -> float | None:
        """The share of a core of its busiest process in that time; None where it was too short to tell."""
        inside = [(at, used) for at, used in self.cpu if window_ns[0] <= at <= window_ns[1]]
        if len(inside) < 3:
            return None
        (first_ns, first), (last_ns, last) = inside[0], inside[-1]
        return max(
            ((used - first.get(pid, 0.0)) / ((last_ns - first_ns) / 1e9) for pid, used in last.items()),
            default=None,
        )


def run(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    signs: Callable[[], object],
    silence_s: float,
    polls: str = "",
) -> Ended:
    """Until its end. `signs` is asked now and then; a tool whose signs have not changed for `silence_s` is stuck, and
    is ended. `polls` is the name of a process of it that takes what CPU there is while it waits, and is not counted.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        log = (folder / LOG).open("wb")
    ended = Ended(0)
    with log, interrupts() as pressed:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )
        except OSError as error:
            raise DynoctlError(f"{command[0]} cannot be run: {error.strerror}") from None
        try:
            _watch(process, ended, signs, silence_s, pressed, polls)
        except BaseException:
            _end(process, signal.SIGKILL)
            _end_helpers(process)
            raise
        ended.code = process.wait()
        _end_helpers(process)
    return ended


def _watch(
    process: subprocess.Popen[bytes],
    ended: Ended,
    signs: Callable[[], object],
    silence_s: float,
    pressed: Interrupts,
    polls: str,
) -> None:
    before, since_s = signs(), time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_S)
            return
        if pressed.pressed:
            ended.interrupted = True
            _end(process, signal.SIGINT)
            return
        ended.cpu.append((time.time_ns(), cpu_s(process.pid, polls)))
        now = signs()
        if now != before:
            before, since_s = now, time.monotonic()
        elif time.monotonic() - since_s > silence_s:
            ended.stuck = True
            _end(process, signal.SIGTERM)
            return


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Ask its whole session to end; then no more asking."""
    for what, wait_s in ((how, GRACE_S), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, what)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
            break


def _end_helpers(process: subprocess.Popen[bytes]) -> None:
    """They may outlive it, however it ended; the number of a session is nobody else's while one of them is in it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def cpu_s(pid: int, but: str = "") -> dict[int, float]:
    """CPU seconds of a process and of all that it started, by pid; of none that has that name."""
    found: dict[int, float] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        head, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        fields = rest.split()
        if not but or head.partition("(")[2] != but:
            found[pid] = (int(fields[11]) + int(fields[12])) * _TICK_S
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found |= cpu_s(int(child), but)
    return found


def last_words(folder: Path, count: int = 8, telling: re.Pattern[str] | None = None) -> list[str]:
    """The lines of what it said that tell what went wrong; where none does, or nobody knows such lines, the end."""
    try:
        lines = (folder / LOG).read_text(errors="replace").splitlines()
    except OSError:
        return []
    said = [line.rstrip()[:300] for line in lines if line.strip()]
    told = list(dict.fromkeys(line for line in said if telling is not None and telling.search(line)))
    return told[:count] or said[-count:]

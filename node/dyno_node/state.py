"""What a supervisor knows of its unit: `state.json`, replaced by rename at every change.

In: a `State`. Out: the file; and back. A state of an earlier boot, or one whose pid was given to another process
since, is history: `process` then answers None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dyno_node import clock, proc
from dyno_node.files import read_json, write_json

PHASES = ("starting", "running", "waiting", "failed", "stopping", "stopped")


@dataclass(frozen=True, slots=True)
class State:
    """One unit at one moment. `since_s`: uptime when `phase` began. `exit`: how the process last ended."""

    unit: str
    digest: str
    phase: str
    boot_id: str
    since_s: float
    pid: int | None = None
    starttime: int | None = None
    supervisor: dict[str, Any] | None = None
    cgroup: str | None = None
    restarts: int = 0
    exit: dict[str, Any] | None = None
    problem: str | None = None
    listens: Sequence[
        int
    ] = ()  # what this run of the unit was told to hold, whatever its unit.json says by now

    @property
    def process(self) -> proc.Process | None:
        """The unit's process, if it is alive: pid, starttime and boot must all be the ones written down."""
        if self.pid is None or self.starttime is None or self.boot_id != clock.boot_id():
            return None
        process = proc.Process(self.pid, self.starttime)
        return process if proc.alive(process) else None

    def entered(self, phase: str, **changes: Any) -> State:
        """The state after a change of phase, now."""
        return replace(self, phase=phase, since_s=round(clock.uptime_s(), 3), **changes)


def write(path: Path, state: State) -> None:
    """Replace the file; raises OSError where it cannot be written."""
    write_json(path, asdict(state))


def read(path: Path) -> State | None:
    """The state; None where there is none or a power loss tore it (what runs is then found by its marks)."""
    document = read_json(path)
    try:
        state = State(**(document or {}))
    except TypeError:
        return None
    sound = state.phase in PHASES and isinstance(state.pid, int | None) and isinstance(state.boot_id, str)
    return state if sound else None

"""Does a unit still move? Its log grows, its health changes, or its processes compute or read.

In: one sample after another. Out: seconds since it last moved. A worker that loads for half an hour moves; one that
waits for a peer that never comes does not, though its heart still beats: hence the thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dyno_node import log, proc
from dyno_node.unit import UnitDir

CPU_SHARE = 0.05  # of one core, between two samples
IO_BYTES_PER_S = 64 * 1024


class Progress:
    """The movement of one unit, from `start_s` on the caller's clock."""

    def __init__(self, place: UnitDir, start_s: float) -> None:
        self._place = place
        self._moved_s = start_s
        self._sampled_s = start_s
        self._seen: Any = None
        self._cpu_s: dict[int, float] = {}
        self._io_bytes: dict[int, int] = {}

    def sample(self, view: dict[str, Any], stats: dict[int, proc.Stat], now_s: float) -> float:
        """Look once more; returns how many seconds the unit has not moved."""
        passed_s = max(now_s - self._sampled_s, 1e-3)
        self._sampled_s = now_s
        seen = (without_beat(view), log.size_bytes(self._place.log))
        family = _family(view["pid"], stats)
        cpu_s = {stat.process.pid: stat.cpu_s for stat in family}
        io_bytes = {pid: proc.io_bytes(pid) for pid in cpu_s}
        moved = (
            seen != self._seen
            or _grown(cpu_s, self._cpu_s) >= CPU_SHARE * passed_s
            or _grown(io_bytes, self._io_bytes) >= IO_BYTES_PER_S * passed_s
        )
        self._seen, self._cpu_s, self._io_bytes = seen, cpu_s, io_bytes
        if moved:
            self._moved_s = now_s
        return now_s - self._moved_s


def without_beat(view: dict[str, Any]) -> dict[str, Any]:
    """A view without what changes though nothing happens."""
    health = view["health"]
    return {**view, "health": {**health, "beat_s": None} if health else None}


def _family(pid: int | None, stats: dict[int, proc.Stat]) -> list[proc.Stat]:
    if pid is None or pid not in stats:
        return []
    return [stats[pid], *proc.descendants(pid, stats)]


def _grown(now: Mapping[int, float], before: Mapping[int, float]) -> float:
    return sum(max(0.0, value - before.get(pid, 0.0)) for pid, value in now.items())

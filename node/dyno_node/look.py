"""How a unit is at this moment, from what its supervisor wrote and what /proc says.

In: its folder, and the table of ports that listen. Out: a view, as `watch` streams it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dyno_node import clock, listening, lock, proc, state
from dyno_node.files import read_json
from dyno_node.state import State
from dyno_node.unit import BadUnit, UnitDir, load

NOT_RESPONDING_S = 10.0


class View:
    """One unit, to be looked at once or again and again."""

    def __init__(self, place: UnitDir) -> None:
        self.name = place.path.name
        self.place = place
        self._sockets: dict[int, str] = {}
        try:
            self._listens: tuple[int, ...] = load(place).listens
        except BadUnit:
            self._listens = ()

    def __call__(self, table: dict[int, set[str]]) -> dict[str, Any]:
        """State and health, merged.

        `phase` is the supervisor's, or `none` (never started), `unreadable` (a torn state) or `gone` (it says
        that the unit runs, and neither process nor supervisor is there). `listening` has an entry for each port
        of `listens`. `health` is null unless the living process wrote it; `responding` is false once its beat is
        over 10 s old.
        """
        now = state.read(self.place.state)
        process = now.process if now is not None else None
        supervised = lock.holder(self.place.supervisor_lock) is not None
        ports = listening.held(self._listens, process.pid if process else None, table, self._sockets)
        return {
            "unit": self.name,
            "dir": str(self.place.path),
            "digest": now.digest if now else None,
            "phase": self._phase(now, process, supervised),
            "supervised": supervised,
            "pid": process.pid if process else None,
            "since_s": now.since_s if now else None,
            "restarts": now.restarts if now else 0,
            "exit": now.exit if now else None,
            "problem": now.problem if now else None,
            "listening": {str(port): port in ports for port in self._listens},
            **_health(self.place.health, process),
        }

    def _phase(self, now: State | None, process: proc.Process | None, supervised: bool) -> str:
        if now is None:
            return "unreadable" if self.place.state.exists() else "none"
        over = now.phase in ("failed", "stopped")
        return now.phase if over or supervised or process is not None else "gone"


def _health(path: Path, process: proc.Process | None) -> dict[str, Any]:
    health = read_json(path)
    if process is None or health is None or health.get("pid") != process.pid:
        return {"health": None, "responding": None}
    age_s = clock.uptime_s() - float(health.get("beat_s", 0.0))
    if age_s < 0:
        return {"health": None, "responding": None}  # of an earlier boot, by a process with the same pid
    return {"health": health, "responding": age_s <= NOT_RESPONDING_S}

"""A unit as it was seen: what its own files and /proc say, or what the node program tells while it watches.

In: the files of a unit's folder as a look at the node printed them, or a view of `watch`. Out: the same `UnitSeen`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynoctl.plan.observed import HEARTBEAT_STALE_S, RoleHealth, UnitSeen

NONSENSE = (
    TypeError,
    ValueError,
    AttributeError,
    KeyError,
)  # what parsing somebody else's document may raise
# How the node program calls a unit without a state that can be read, and one whose processes are gone.
_PHASES = {"none": "unknown", "unreadable": "unknown", "gone": "dead"}


def read_files(
    name: str,
    state: Mapping[str, Any] | None,
    health: Mapping[str, Any] | None,
    figures: Mapping[str, Any] | None,
    stat: str,
    supervisor_stat: str,
    *,
    boot_id: str,
    uptime_s: float,
) -> UnitSeen:
    """Files that another version wrote, or that a bad disk changed, count as torn: the unit is half-started."""
    unknown = UnitSeen(name=name, digest=None, phase="unknown", alive=False, supervised=False)
    if state is None:
        return unknown
    try:
        alive = _runs(state, stat, boot_id)
        supervisor = {"boot_id": state.get("boot_id"), **(state.get("supervisor") or {})}
        supervised = _runs(supervisor, supervisor_stat, boot_id)
        phase = str(state["phase"])
        if not alive and not supervised and phase in ("starting", "running", "waiting", "stopping"):
            phase = "dead"
        own_health = health if alive and health and health.get("pid") == state.get("pid") else {}
        return UnitSeen(
            name=name,
            digest=state.get("digest"),
            phase=phase,
            alive=alive,
            supervised=supervised,
            pid=state.get("pid") if alive else None,
            restarts=int(state.get("restarts") or 0),
            up_s=max(0.0, uptime_s - float(state.get("since_s") or uptime_s)) if alive else 0.0,
            exit=dict(state["exit"]) if state.get("exit") else None,
            listens=tuple(int(port) for port in state["listens"]) if "listens" in state else None,
            figures=_figures(figures, state, uptime_s) if alive else None,
            **_said(own_health, uptime_s),
        )
    except NONSENSE:
        return unknown


def read_view(view: Mapping[str, Any]) -> UnitSeen:
    """A view of the node program, which has proved the pid and compared the files with it."""
    said = _said(view.get("health") or {}, 0.0)
    if (responding := view.get("responding")) is not None:
        said["beat_age_s"] = 0.0 if responding else 6 * HEARTBEAT_STALE_S
    return UnitSeen(
        name=str(view["unit"]),
        digest=view.get("digest"),
        phase=_PHASES.get(view["phase"], view["phase"]),
        alive=view.get("pid") is not None,
        supervised=bool(view.get("supervised")),
        pid=view.get("pid"),
        restarts=int(view.get("restarts") or 0),
        exit=view.get("exit"),
        **said,
    )


def _runs(named: Mapping[str, Any] | None, stat: str, boot_id: str) -> bool:
    """Whether the process that a document names is the one that /proc shows, in this boot and not a zombie.

    Field 22 of the stat line is the start time; the second field may hold spaces and brackets, so count from its end.
    """
    fields = stat.rpartition(")")[2].split()
    if named is None or len(fields) < 20 or fields[0] in ("Z", "X"):
        return False
    same_process = named.get("starttime") == int(fields[19]) and stat.startswith(f"{named.get('pid')} ")
    return named.get("boot_id") == boot_id and same_process


def _said(health: Mapping[str, Any], uptime_s: float) -> dict[str, Any]:
    """What a process says of itself; nothing where that cannot be understood."""
    try:
        return {
            "roles": {
                str(role): RoleHealth(
                    port=bool(said.get("port")),
                    registered=bool(said.get("registered")),
                    engine=str(said.get("engine", "none")),
                    problem=said.get("problem"),
                )
                for role, said in dict(health.get("roles", {})).items()
            },
            "sees": {str(role): int(count) for role, count in dict(health.get("sees", {})).items()},
            "beat_age_s": max(0.0, uptime_s - float(health["beat_s"])) if "beat_s" in health else None,
        }
    except NONSENSE:
        return {}


def _figures(
    found: Mapping[str, Any] | None, state: Mapping[str, Any], uptime_s: float
) -> dict[str, Any] | None:
    """None where another process wrote them, or this one long ago."""
    if found is None or found.get("pid") != state.get("pid"):
        return None
    beat_s = found.get("beat_s")
    fresh = isinstance(beat_s, int | float) and uptime_s - beat_s <= HEARTBEAT_STALE_S
    return dict(found) if fresh else None

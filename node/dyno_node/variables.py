"""The environment of a unit: the same whoever starts it, from wherever.

In: the environment of whoever called, and a unit. Out: a plain dict. Only the names in KEPT are taken over;
everything else comes from the topology through `unit.json`, so that no shell of a laptop leaks into a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping

from dyno_node.unit import FOLDER_MARK, MARK, SUPERVISOR_MARK, Unit, UnitDir

KEPT = frozenset(
    (
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "PATH",
        "LANG",
        "LC_ALL",
        "TZ",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "XDG_RUNTIME_DIR",
        "DBUS_SESSION_BUS_ADDRESS",
    )
)


def kept(around: Mapping[str, str]) -> dict[str, str]:
    """What is taken over from the caller."""
    return {name: value for name, value in around.items() if name in KEPT}


def of_service(unit: Unit, place: UnitDir, around: Mapping[str, str]) -> dict[str, str]:
    """What the unit's process gets; the marks win over everything."""
    return kept(around) | dict(unit.env) | {MARK: unit.mark, FOLDER_MARK: str(place.path)}


def of_supervisor(unit: Unit, place: UnitDir, around: Mapping[str, str]) -> dict[str, str]:
    """What the supervisor gets: no value of `unit.json`, for it may hold secrets and systemd would show them."""
    marks = {MARK: unit.mark, FOLDER_MARK: str(place.path), SUPERVISOR_MARK: "1"}
    return kept(around) | marks

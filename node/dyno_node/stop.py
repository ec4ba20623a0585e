"""Verb `stop`: end a unit with everything that came out of it, and look whether that is so.

In: `{"unit_dir": …, "grace_s": 10}`. Out: `{"ok": true, "left": [], "was": …}`, or `ok` false and in `left` what
is still there, with why. Works with a supervisor, without one, and on a unit that never ran.

Order: the supervisor first, for it would start the unit again; then systemd, which would start the supervisor again;
then, holding the supervisor's lock ourselves, whatever the marks, the cgroup and the written pid still find.
"""

from __future__ import annotations

import signal
import time
from typing import Any

from dyno_node import cgroup, clock, end, lock, members, proc, state, systemd
from dyno_node.files import write_json
from dyno_node.request import number, text
from dyno_node.state import State
from dyno_node.unit import BadUnit, UnitDir, load

VERB_LOCK_S = 30.0
GRACE_S = 10.0
_MARGIN_S = 5.0
_NOTE_S = 2.0
_LOOK_S = 0.02


def stop(request: dict[str, Any]) -> dict[str, Any]:
    """Stop the unit of `unit_dir`."""
    place = UnitDir.at(text(request, "unit_dir"))
    grace_s = number(request, "grace_s", GRACE_S)
    if not place.path.is_dir():
        return {"ok": True, "left": [], "was": "never started"}
    try:
        held = lock.take(place.verb_lock, VERB_LOCK_S + grace_s)
    except OSError as error:
        return _no(f"{place.path} cannot be locked: {error.strerror}")
    if held is None:
        wait_s = VERB_LOCK_S + grace_s
        return _no(f"another start or stop of {place.path.name} has been going on for {wait_s:.0f} s")
    with held:
        return _stop(place, grace_s)


def _stop(place: UnitDir, grace_s: float) -> dict[str, Any]:
    was = _was(place)
    problem = _end_supervisor(place, grace_s)
    service = _service(place)
    if service is not None:
        try:
            systemd.stop(service, grace_s + end.LAST_GRACE_S + end.HARD_S + _MARGIN_S)
        except systemd.Refused as refusal:
            problem = f"systemd does not stop {service}: {refusal}" if _loaded(service) else problem
    held = lock.take(place.supervisor_lock, _NOTE_S)
    if held is None:
        return {"ok": False, "error": problem or "a supervisor still holds the unit", "left": _holder(place)}
    with held:
        remains = _end_rest(place, grace_s)
    answer: dict[str, Any] = {"ok": not remains and problem is None, "left": end.left(remains), "was": was}
    if remains:
        problem = f"{len(remains)} processes of {place.path.name} do not end"
    return {**answer, "error": problem} if problem else answer


def _no(error: str) -> dict[str, Any]:
    return {"ok": False, "error": error, "left": []}


def _was(place: UnitDir) -> str:
    if lock.holder(place.supervisor_lock) is not None:
        return "supervised"
    old = state.read(place.state)
    if old is None:
        return "unreadable" if place.state.exists() else "never started"
    if old.boot_id != clock.boot_id():
        return "of an earlier boot"
    if old.process is not None:
        return "without a supervisor"
    return old.phase if old.phase in ("failed", "stopped") else "dead"


def _end_supervisor(place: UnitDir, grace_s: float) -> str | None:
    """Ask it to stop its unit and wait for its end; SIGKILL where it does not. A sentence if it lives on."""
    deadline = time.monotonic() + _NOTE_S
    while (who := lock.holder(place.supervisor_lock)) is not None and "starttime" not in who:
        if time.monotonic() >= deadline:
            return "a supervisor holds the unit and does not say who it is"
        time.sleep(_LOOK_S)  # it has just taken the lock and is about to write its note
    if who is None:
        return None
    supervisor = proc.Process(who["pid"], who["starttime"])
    try:
        write_json(place.stop, {"grace_s": grace_s})
    except OSError:
        pass  # Disk full: it will give the grace of its unit.json.
    if not proc.send(supervisor, signal.SIGTERM) and proc.alive(supervisor):
        return f"the supervisor (pid {supervisor.pid}) belongs to another user"
    proc.send(supervisor, signal.SIGCONT)  # a stopped process sees no SIGTERM before it goes on
    if proc.wait_gone([supervisor], grace_s + end.LAST_GRACE_S + end.HARD_S + _MARGIN_S):
        proc.send(supervisor, signal.SIGKILL)
        if proc.wait_gone([supervisor], _MARGIN_S):
            return f"the supervisor (pid {supervisor.pid}) does not end on SIGKILL"
    return None


def _service(place: UnitDir) -> str | None:
    """The systemd unit around the supervisor, if there is or was one."""
    old = state.read(place.state)
    if old is not None and old.supervisor is not None and "unit" in old.supervisor:
        return str(old.supervisor["unit"])
    try:
        unit = load(place)
    except BadUnit:
        return None
    return cgroup.name_for(unit.mark, place.path) + ".service" if unit.backend == "systemd" else None


def _group(place: UnitDir) -> str | None:
    """The unit's cgroup, where no state names it."""
    try:
        return cgroup.find(cgroup.name_for(load(place).mark, place.path))
    except BadUnit:
        return None


def _loaded(service: str) -> bool:
    return service in systemd.units(service)


def _holder(place: UnitDir) -> list[dict[str, Any]]:
    who = lock.holder(place.supervisor_lock) or {}
    pid = who.get("pid")
    return [{"pid": pid, "argv": proc.argv(pid), "why": "it holds the unit's lock"}] if pid else []


def _end_rest(place: UnitDir, grace_s: float) -> list[proc.Process]:
    old = state.read(place.state)
    # Of another boot, neither pid nor cgroup means anything now; marks are of living processes only.
    current = old if old is not None and old.boot_id == clock.boot_id() else None
    main = current.process if current else None
    group = current.cgroup if current else _group(place)

    def find() -> list[proc.Process]:
        running = [main] if main is not None and proc.alive(main) else []
        below = [each.pid for each in running]
        return sorted({*members.of_unit(str(place.path), below=below, group=group), *running})

    remains = end.end(find, main, grace_s=grace_s, group=group)
    if not remains:
        _record(place, old)
    return remains


def _record(place: UnitDir, old: State | None) -> None:
    place.stop.unlink(missing_ok=True)
    if old is None:
        place.state.unlink(missing_ok=True)  # torn: it says nothing, and nothing runs
    elif old.phase not in ("stopped", "failed"):
        stopped = old.entered("stopped", pid=None, starttime=None, cgroup=None)
        try:
            state.write(place.state, stopped)
        except OSError:
            pass  # Disk full: the old state names a dead pid, which `start` and `stop` understand.

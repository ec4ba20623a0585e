"""Verb `start`: a supervisor for a unit, launched by ourselves or by systemd, unless one has it already.

In: `{"unit_dir": …}`. Out: `{"ok": true, "pid": …, "phase": …, "already": …, "adopted": …}` once the process runs, or
`{"ok": false, "error": sentence, …}`, and then nothing of it runs that did not run before.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from dyno_node import cgroup, end, lock, log, proc, state, systemd, variables
from dyno_node.request import text
from dyno_node.talk import Ear
from dyno_node.unit import BadUnit, Unit, UnitDir, load

VERB_LOCK_S = 30.0
_LAUNCH_S = 30.0
_TAKEOVER_S = 10.0
_LOOK_S = 0.02
_SERVING = ("running", "waiting")


def start(request: dict[str, Any]) -> dict[str, Any]:
    """Start the unit of `unit_dir`, or find it running."""
    place = UnitDir.at(text(request, "unit_dir"))
    try:
        unit = load(place)
        held = lock.take(place.verb_lock, VERB_LOCK_S)
    except BadUnit as error:
        return _no(str(error))
    except OSError as error:
        return _no(f"{place.path} cannot be locked: {error.strerror}")
    if held is None:
        return _no(f"another start or stop of {unit.unit} has been going on for {VERB_LOCK_S:.0f} s")
    with held:
        answer = _found(unit, place) or _launch(unit, place)
        if answer.get("held"):
            # A supervisor whose own `start` was killed came to hold the unit between our look and our launch.
            answer = _found(unit, place) or _launch(unit, place)
        return answer


def _found(unit: Unit, place: UnitDir) -> dict[str, Any] | None:
    """The answer where something of the unit is there already; None where a supervisor is needed."""
    deadline = time.monotonic() + _TAKEOVER_S + unit.stop_grace_s
    while (who := lock.holder(place.supervisor_lock)) is not None:
        if who.get("digest", unit.digest) != unit.digest:
            return _other(unit, str(who["digest"]), "runs")
        now = state.read(place.state)
        # A state is the holder's own only if it names the holder; before that it is of an earlier run.
        if now and now.phase in _SERVING and _is_of(now, who):
            return {"ok": True, "already": True, "adopted": False, "pid": now.pid, "phase": now.phase}
        if time.monotonic() >= deadline:
            return _no(f"the supervisor of {unit.unit} (pid {who.get('pid')}) neither starts it nor ends")
        time.sleep(_LOOK_S)  # it starts or stops at this moment; a held lock cannot be waited for otherwise
    old = state.read(place.state)
    if old is not None and old.process is not None and old.digest != unit.digest:
        return _other(unit, old.digest, "runs without a supervisor")
    return None


def _is_of(now: state.State, who: dict[str, Any]) -> bool:
    writer = now.supervisor or {}
    return all(key in who and writer.get(key) == who[key] for key in ("pid", "starttime"))


def _other(unit: Unit, digest: str, runs: str) -> dict[str, Any]:
    return _no(f"{unit.unit} {runs} with digest {digest}, and {unit.digest} was asked for: stop it first")


def _launch(unit: Unit, place: UnitDir) -> dict[str, Any]:
    """A supervisor by systemd where that outlives our logout; everywhere else by ourselves, and then we say why."""
    if unit.backend != "systemd":
        return _by_backend(unit, place, "agent")
    found = systemd.backend()
    if found.name == "systemd" and found.linger:
        return _by_backend(unit, place, "systemd")
    return {**_by_backend(unit, place, "agent"), "warning": f"supervised without systemd: {found.why}"}


def _by_backend(unit: Unit, place: UnitDir, backend: str) -> dict[str, Any]:
    wait_s = _LAUNCH_S + unit.stop_grace_s
    with Ear() as ear:
        program = os.path.realpath(sys.argv[0])
        command = [sys.executable, "-I", program, "supervise", str(place.path), ear.name]
        env = variables.of_supervisor(unit, place, os.environ)
        if backend == "systemd":
            return _by_systemd(unit, place, ear, command, env, wait_s)
        # A session of its own: neither the end of our SSH connection nor a signal to our group reaches it.
        pid = os.posix_spawn(command[0], command, env, setsid=True)
        fd = _pidfd(pid)
        word = ear.hear(wait_s, fd)
        if fd is not None:
            os.close(fd)
    return word or _silent(place, wait_s, os.waitpid(pid, os.WNOHANG))


def _by_systemd(
    unit: Unit, place: UnitDir, ear: Ear, command: list[str], env: dict[str, str], wait_s: float
) -> dict[str, Any]:
    name = cgroup.name_for(unit.mark, place.path) + ".service"
    stop_s = unit.stop_grace_s + end.LAST_GRACE_S + end.HARD_S + 5.0
    try:
        try:
            systemd.launch(name, command, env, stop_s)
        except systemd.Refused:
            if name not in systemd.units(name):
                raise
            # Left by a supervisor that crashed, and about to be started again; nobody holds the unit now.
            systemd.stop(name, stop_s)
            systemd.launch(name, command, env, stop_s)
    except systemd.Refused as refusal:
        return _no(f"systemd does not start {name}: {refusal}")
    return ear.hear(wait_s) or _silent(place, wait_s, (0, 0))


def _silent(place: UnitDir, wait_s: float, waited: tuple[int, int]) -> dict[str, Any]:
    pid, status = waited
    if pid:
        code = os.waitstatus_to_exitcode(status)
        error = f"the supervisor ended with status {code} before it could start anything"
    else:
        error = f"the supervisor said nothing for {wait_s:.0f} s"
    return {**_no(error), "log": log.tail(place.log)}


def _pidfd(pid: int) -> int | None:
    stat = proc.stat_of(pid)
    try:
        return proc.pidfd(stat.process) if stat is not None else None
    except OSError:
        return None


def _no(error: str) -> dict[str, Any]:
    return {"ok": False, "error": error}

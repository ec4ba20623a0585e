"""The supervisor: one process per unit that starts it, starts it again, rotates its log, and ends it whole.

In: a unit's folder, and the name of the ear of the `start` that launched it. Out: `state.json`, and an exit status of
0 when the unit was stopped or given up (systemd starts us again after anything else). Order at the start, so that a
power loss or SIGKILL between any two steps leaves something that the next `start` or `stop` understands:

    1 take supervisor.lock      nobody else works on the unit; the kernel lets go when we end
    2 end what is left over     of a run whose supervisor died, found by cgroup and marks; or adopt it
    3 fork, cgroup, state.json  the child waits: it is executed only when its pid is on the disk
    4 execute, tell the launcher
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

from dyno_node import cgroup, clock, end, lock, log, members, proc, restart, spawn, state, talk, variables
from dyno_node.files import read_json
from dyno_node.log_watch import LogWatch
from dyno_node.signals import Signals
from dyno_node.state import State
from dyno_node.unit import BadUnit, Unit, UnitDir, load

LOCK_S = 1.0  # whoever only looks holds it for microseconds
SETTLE_S = 0.1  # a unit that ends within this time of its first start is not started again: it cannot work
_WAKE_S = 1.0
_PR_SET_CHILD_SUBREAPER = 36


def main(folder: str, ear: str) -> int:
    """Hold the unit until it is stopped or given up."""
    place = UnitDir.at(folder)
    try:
        held = lock.take(place.supervisor_lock, LOCK_S)
        if held is None:
            talk.tell(ear, {"ok": False, "held": True, "error": "another supervisor holds the unit"})
            return 0
        unit = load(place)
        _detach(place)
        held.note({**_identity(unit, place), "boot_id": clock.boot_id(), "digest": unit.digest})
        Supervisor(unit, place).run(ear)
    except (OSError, BadUnit) as error:
        problem = f"the supervisor cannot work: {_text(error)}"
        _log(f"{place.path.name}: {problem}")
        # Nobody heard it: systemd started us again after a crash, and shall try once more.
        return 0 if talk.tell(ear, {"ok": False, "error": problem}) else 1
    return 0


def _detach(place: UnitDir) -> None:
    """Leave the caller's folder and streams; what we have to say goes to the unit's log."""
    os.chdir("/")
    os.umask(0o077)
    output = log.open_log(place.log)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)


def _identity(unit: Unit, place: UnitDir) -> dict[str, Any]:
    own = proc.own()
    service = cgroup.name_for(unit.mark, place.path) + ".service"
    named = {"unit": service} if unit.backend == "systemd" else {}
    return {"pid": own.pid, "starttime": own.starttime, **named}


class Supervisor:
    """One unit, from the first start to the last end."""

    def __init__(self, unit: Unit, place: UnitDir) -> None:
        self._unit = unit
        self._place = place
        self._signals = Signals()
        self._log_watch = LogWatch(place.log, unit.log)
        self._main: proc.Process | None = None
        self._adopted: int | None = None  # the pidfd of a process that is not our child
        self._exit: dict[str, Any] | None = None
        self._crashes_s: list[float] = []
        self._state = State(
            unit.unit,
            unit.digest,
            "starting",
            clock.boot_id(),
            clock.uptime_s(),
            supervisor=_identity(unit, place),
            listens=unit.listens,
        )

    def run(self, ear: str) -> None:
        """Take the unit over or start it, tell the launcher, and stay until the end."""
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        old = state.read(self._place.state)
        self._place.stop.unlink(missing_ok=True)
        if old is not None and old.digest == self._unit.digest and old.process is not None:
            word = self._adopt(old, old.process)
        else:
            word = self._first_start(old)
        talk.tell(ear, word)
        while word["ok"] and not self._signals.stop:
            self._watch_process()
            if not self._signals.stop and not self._start_again():
                return
        if word["ok"]:
            self._stop()

    def _adopt(self, old: State, process: proc.Process) -> dict[str, Any]:
        """Its supervisor was killed and it went on: watch it from here. How it ends will not be known to us."""
        self._main = process
        try:
            self._adopted = proc.pidfd(process)
        except OSError:
            self._adopted = None  # no pidfd in this kernel: the loop looks once a second anyway
        self._state = State(
            **{f: getattr(old, f) for f in State.__slots__} | {"supervisor": self._state.supervisor}
        ).entered("running")
        self._write_state()
        self._say(f"took over pid {process.pid}, whose supervisor was gone")
        return {"ok": True, "already": False, "adopted": True, "pid": process.pid, "phase": "running"}

    def _first_start(self, old: State | None) -> dict[str, Any]:
        known = old.cgroup if old is not None and old.boot_id == self._state.boot_id else None
        # A state that a power loss tore does not name the cgroup, which may hold what no mark gives away.
        group = known or cgroup.find(cgroup.name_for(self._unit.mark, self._place.path))
        self._state = self._state.entered("starting", cgroup=group)
        remains = end.end(self._find, None, grace_s=self._unit.stop_grace_s, group=self._state.cgroup)
        if remains:
            return self._give_up("processes of an earlier run do not end", left=end.left(remains))
        try:
            self._start()
        except (spawn.CannotStart, OSError) as error:
            return self._give_up(_text(error))
        assert self._main is not None
        deadline = time.monotonic() + SETTLE_S
        while self._running() and not self._signals.stop and (left_s := deadline - time.monotonic()) > 0:
            self._signals.wait(left_s)
        if not self._running() and not self._signals.stop:
            self._end_rest()
            return self._give_up(f"{self._unit.unit} {how(self._exit)} at once")
        return {"ok": True, "already": False, "adopted": False, "pid": self._main.pid, "phase": "running"}

    def _give_up(self, problem: str, **more: Any) -> dict[str, Any]:
        self._say(f"given up: {problem}")
        self._state = self._state.entered(
            "failed", pid=None, starttime=None, exit=self._exit, problem=problem
        )
        self._write_state()
        return {"ok": False, "error": problem, "exit": self._exit, "log": log.tail(self._place.log), **more}

    def _start(self) -> None:
        """Start the process; its pid is on the disk before it is executed (`spawn` says how)."""
        self._main, self._exit = None, None
        if self._adopted is not None:
            os.close(self._adopted)
            self._adopted = None
        # After a reboot the process may get the pid of the one that wrote it.
        self._place.health.unlink(missing_ok=True)
        output = log.open_log(self._place.log)
        try:
            self._main = spawn.spawn(
                self._unit.argv,
                variables.of_service(self._unit, self._place, os.environ),
                folder=self._place.path,
                output=output,
                before=self._write_down,
            )
        finally:
            os.close(output)
        self._state = self._state.entered("running")
        self._write_state()
        self._say(f"started pid {self._main.pid}")

    def _write_down(self, process: proc.Process) -> None:
        group = cgroup.place(cgroup.name_for(self._unit.mark, self._place.path), process.pid)
        self._state = self._state.entered(
            "starting", pid=process.pid, starttime=process.starttime, cgroup=group
        )
        state.write(self._place.state, self._state)

    def _watch_process(self) -> None:
        while self._running() and not self._signals.stop:
            self._signals.wait(self._log_watch.turn(), self._adopted)

    def _running(self) -> bool:
        self._reap()
        if self._main is None or self._exit is not None:
            return False
        if proc.alive(self._main):
            return True
        self._exit = {"unknown": True}  # not our child, so nobody tells us how it ended
        return False

    def _reap(self) -> None:
        """Collect every dead child; as subreaper we get the orphans of the unit, too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._main is not None and pid == self._main.pid:
                code = os.waitstatus_to_exitcode(status)
                self._exit = {"code": code} if code >= 0 else {"signal": -code}

    def _start_again(self) -> bool:
        """After an end that nobody asked for: wait and start. False when the unit was given up.

        A full disk, or a lack of memory, passes: a start that fails for such a reason is one more crash.
        """
        self._end_rest()
        what = how(self._exit)
        while self._waited(what):
            if self._signals.stop:
                return True
            last = self._exit
            self._state = self._state.entered("starting", restarts=self._state.restarts + 1)
            try:
                self._start()
                return True
            except spawn.CannotStart as error:
                self._exit = last
                self._give_up(_text(error))
                return False
            except OSError as error:
                self._exit = None
                what = f"could not be started ({_text(error)})"
        return False

    def _waited(self, what: str) -> bool:
        """Wait after one more crash, or until we are told to stop. False when the unit was given up."""
        now_s = time.monotonic()
        self._crashes_s = [*self._crashes_s, now_s][-(self._unit.restart.max + 1) :]
        wait_s = restart.next_wait_s(self._unit.restart, self._crashes_s, now_s, _chance())
        if wait_s is None:
            self._give_up(f"{self._unit.unit} {what}, once too often")
            return False
        self._say(f"{what}; starting again in {wait_s:.1f} s")
        self._state = self._state.entered("waiting", pid=None, starttime=None, exit=self._exit)
        self._write_state()
        while (left_s := now_s + wait_s - time.monotonic()) > 0 and not self._signals.stop:
            self._signals.wait(min(left_s, _WAKE_S))
            self._reap()
        return True

    def _end_rest(self) -> None:
        """The helpers of a process that ended hold its port and its GPU: they go before it comes back."""
        end.end(self._find, None, grace_s=end.LAST_GRACE_S, group=self._state.cgroup, reap=self._reap)

    def _stop(self) -> None:
        asked = read_json(self._place.stop) or {}
        grace_s = float(asked.get("grace_s", self._unit.stop_grace_s))
        self._state = self._state.entered("stopping")
        self._write_state()
        running = self._main if self._running() else None
        remains = end.end(self._find, running, grace_s=grace_s, group=self._state.cgroup, reap=self._reap)
        self._reap()
        if remains:
            problem = f"{len(remains)} processes do not end"
            self._state = self._state.entered("stopping", exit=self._exit, problem=problem)
        else:
            self._state = self._state.entered(
                "stopped", pid=None, starttime=None, exit=self._exit, cgroup=None
            )
        self._write_state()
        self._place.stop.unlink(missing_ok=True)
        self._say("stopped")

    def _find(self) -> list[proc.Process]:
        running = [self._main] if self._main is not None and proc.alive(self._main) else []
        below = [os.getpid(), *(each.pid for each in running)]
        found = members.of_unit(str(self._place.path), below=below, group=self._state.cgroup)
        return sorted({*found, *running})

    def _write_state(self) -> None:
        try:
            state.write(self._place.state, self._state)
        except OSError as error:
            # A full disk must not end what serves; marks and cgroup still find it.
            self._say(f"cannot write {self._place.state}: {error.strerror}")

    def _say(self, text: str) -> None:
        _log(f"{self._unit.unit}: {text}")


def _chance() -> float:
    # The module `random` would cost every supervisor 3 MB.
    return int.from_bytes(os.urandom(4), "big") / 2**32


def _log(text: str) -> None:
    """A line into the unit's log. Unbuffered: what a full disk refuses must not spoil our exit status later."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        os.write(2, f"-- dyno {now} {text}\n".encode())
    except OSError:
        pass  # the disk is full


def how(exit: dict[str, Any] | None) -> str:
    """How a process ended, as the rest of a sentence."""
    if exit is not None and "code" in exit:
        return f"ended with exit code {exit['code']}"
    if exit is not None and "signal" in exit:
        return f"was ended by {signal.Signals(exit['signal']).name}"
    return "ended, and nobody saw how"


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{Path(os.fsdecode(error.filename))}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return str(error)

"""Processes: a name that fits one process only, and signals that reach no other."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace

from dyno_node import proc
from tests.node.program import FOREVER, stranger, until


def test_a_process_is_alive_until_it_is_a_zombie() -> None:
    with subprocess.Popen(FOREVER) as popen:
        stat = proc.stat_of(popen.pid)
        assert stat is not None
        assert proc.alive(stat.process)
        popen.kill()
        until(lambda: not proc.alive(stat.process), "its end")  # not waited for: a zombie
        dead = proc.stat_of(popen.pid)
        assert dead is not None
        assert dead.dead
    assert proc.stat_of(popen.pid) is None


def test_a_name_with_brackets_and_spaces_is_read_right() -> None:
    name = b") R (0 0"
    code = f"import ctypes, time; ctypes.CDLL(None).prctl(15, {name!r}); print(flush=True); time.sleep(600)"
    with subprocess.Popen([*FOREVER[:2], code], stdout=subprocess.PIPE) as popen:
        try:
            assert popen.stdout is not None
            popen.stdout.readline()
            stat = proc.stat_of(popen.pid)
            assert stat is not None
            assert (stat.parent, stat.dead) == (os.getpid(), False)
        finally:
            popen.kill()


def test_a_signal_reaches_nobody_but_the_process_meant() -> None:
    with stranger() as other:
        before = replace(other, starttime=other.starttime - 1)  # the pid's earlier owner
        assert proc.send(before, signal.SIGKILL) is False
        assert proc.pidfd(before) is None
        assert proc.alive(before) is False
        assert proc.wait_gone([before], 10.0) == []


def test_waiting_ends_with_the_last_or_with_the_time() -> None:
    with stranger() as other:
        start_s = time.monotonic()
        assert proc.wait_gone([other], 0.05) == [other]
        assert time.monotonic() - start_s >= 0.05


def test_descendants_are_found_through_generations() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "sleep 600 & wait"]) as popen:
        try:
            (child,) = until(lambda: proc.descendants(popen.pid, proc.snapshot()), "the child")
            assert child.parent == popen.pid
            assert child in proc.descendants(os.getpid(), proc.snapshot())
        finally:
            popen.kill()
            proc.send(child.process, signal.SIGKILL)


def test_a_long_command_line_is_shortened() -> None:
    with stranger(*FOREVER, "y" * 500) as other:
        until(lambda: "yyy" in proc.argv(other.pid), "exec")
        assert len(proc.argv(other.pid)) == 120
        assert proc.argv(other.pid).endswith("y…")

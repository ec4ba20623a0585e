"""This machine as a node: what is particular to it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dynoctl.errors import TimedOut
from dynoctl.remote.local import LocalConnection, environment


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_time_out_ends_the_script_and_its_children(tmp_path: Path) -> None:
    script = f"sleep 300 & echo $! > {tmp_path}/child; trap '' TERM; echo $$ > {tmp_path}/script; wait; wait"
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"n1: a command did not end within 0\.5 s"):
        LocalConnection("n1").run(script, timeout_s=0.5)
    assert time.monotonic() - began < 30
    pids = [int((tmp_path / name).read_text()) for name in ("child", "script")]
    deadline = time.monotonic() + 10
    while any(map(lives, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(lives, pids))


def test_a_child_that_left_the_group_and_holds_the_output_does_not_hold_us(tmp_path: Path) -> None:
    script = f"setsid sleep 300 & echo $! > {tmp_path}/child"
    try:
        with pytest.raises(TimedOut):
            LocalConnection("n1").run(script, timeout_s=0.5)
    finally:
        with suppress(ProcessLookupError):
            os.kill(int((tmp_path / "child").read_text()), 9)


def test_a_script_may_leave_something_behind_that_lets_go_of_its_output(tmp_path: Path) -> None:
    script = f"setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $! > {tmp_path}/child"
    done = LocalConnection("n1").run(script, timeout_s=20)
    child = int((tmp_path / "child").read_text())
    try:
        assert done.status == 0
        assert lives(child)
    finally:
        os.kill(child, 9)


def test_a_signal_is_a_status_as_in_a_shell() -> None:
    assert LocalConnection("n1").run("kill -9 $$", timeout_s=20).status == 137


def test_it_starts_in_the_home_folder_in_a_session_of_its_own() -> None:
    done = LocalConnection("n1").run("pwd -P; cut -d' ' -f6 /proc/$$/stat; echo $$", timeout_s=20)
    folder, session, pid = done.out.decode().split()
    assert folder == str(Path.home().resolve())
    assert session == pid


def test_what_our_own_python_and_shell_set_up_does_not_leak() -> None:
    ours = {
        "PATH": "/usr/bin",
        "HOME": "/home/me",
        "https_proxy": "http://proxy",
        "PYTHONPATH": "/x",
        "VIRTUAL_ENV": "/venv",
        "ENV": "/x/profile",
        "BASH_FUNC_ls%%": "() { :; }",
        "DYNO_UNIT": "a/b/c",
        "PWD": "/tmp",
    }
    assert environment(ours) == {"PATH": "/usr/bin", "HOME": "/home/me", "https_proxy": "http://proxy"}

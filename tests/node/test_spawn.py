"""`spawn`: nothing is executed before its pid is written down."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dyno_node import proc, spawn

ENV = {"PATH": "/usr/bin:/bin"}


def run(tmp_path: Path, before: Callable[[proc.Process], None]) -> proc.Process:
    output = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        return spawn.spawn(["touch", "done"], ENV, folder=tmp_path, output=output, before=before)
    finally:
        os.close(output)


def test_it_is_written_down_first(tmp_path: Path) -> None:
    seen: list[bool] = []
    process = run(tmp_path, lambda its: seen.append(proc.alive(its) and not (tmp_path / "done").exists()))
    assert seen == [True]
    assert os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]) == 0
    assert (tmp_path / "done").exists()


def test_what_cannot_be_written_down_does_not_run(tmp_path: Path) -> None:
    forked: list[proc.Process] = []

    def full(process: proc.Process) -> None:
        forked.append(process)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        run(tmp_path, full)
    assert not (tmp_path / "done").exists()
    assert [proc.stat_of(process.pid) for process in forked] == [None]  # ended, and waited for

"""What a look takes for the unit's own: no health and no note of an earlier boot or of an earlier holder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dyno_node import clock, listening, lock, state
from dyno_node.look import View
from dyno_node.state import State
from dyno_node.unit import UnitDir
from tests.node.program import Program, stranger


def health(folder: Path, pid: int, beat_s: float) -> dict[str, Any]:
    document = {"unit": folder.name, "pid": pid, "beat_s": beat_s, "roles": {}, "sees": {}, "bus": {}}
    (folder / "health.json").write_text(json.dumps(document))
    return document


def test_a_beat_from_the_future_is_of_an_earlier_boot(tmp_path: Path) -> None:
    with stranger() as process:
        now = State("a-0", "d", "running", clock.boot_id(), clock.uptime_s(), process.pid, process.starttime)
        state.write(tmp_path / "state.json", now)
        health(tmp_path, process.pid, clock.uptime_s() + 5000.0)
        view = View(UnitDir.at(str(tmp_path)))(listening.ports())
        assert (view["health"], view["responding"]) == (None, None)
        written = health(tmp_path, process.pid, clock.uptime_s())
        view = View(UnitDir.at(str(tmp_path)))(listening.ports())
        assert (view["health"], view["responding"]) == (written, True)


def test_a_start_removes_what_an_earlier_process_said(program: Program) -> None:
    folder = program.unit()
    health(folder, 1, 0.0)
    assert program.start(folder)["ok"]
    assert not (folder / "health.json").exists()


@pytest.mark.parametrize(
    "note", ["", "torn{", "[]", '{"pid": 1, "starttime": 1, "boot_id": "an-earlier-boot"}']
)
def test_a_note_that_is_not_the_holders_says_nothing(tmp_path: Path, note: str) -> None:
    path = tmp_path / "lock"
    with lock.take(path, 0.0) as held:  # type: ignore[union-attr]
        path.write_text(note)
        assert lock.holder(path) == {}
        held.note({"pid": 2, "boot_id": clock.boot_id()})
        assert lock.holder(path) == {"pid": 2, "boot_id": clock.boot_id()}
    assert lock.holder(path) is None


def test_who_takes_a_lock_removes_the_note_of_the_last_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps({"pid": 1, "boot_id": clock.boot_id()}))
    with lock.take(path, 0.0):  # type: ignore[union-attr]
        assert lock.holder(path) == {}

"""What a look says of units: real states, real processes, and everything that can be wrong with either."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dyno_node import clock, proc
from dyno_node.files import write_json
from dynoctl.plan.observed import RoleHealth, UnitSeen
from tests.dynoctl.plan.looked import Node, supervisor


def test_a_living_unit_without_health(node: Node, process: proc.Process) -> None:
    seen = node.state(process, supervisor=supervisor(process), restarts=2, exit={"code": 1})
    assert seen == UnitSeen(
        name="decode-0",
        digest="d1",
        phase="running",
        alive=True,
        pid=process.pid,
        restarts=2,
        up_s=seen.up_s,
        exit={"code": 1},
        supervised=True,
        listens=(),
    )
    assert 59 < seen.up_s < 600
    assert seen.responding is False


def test_health_of_the_living_process(node: Node, process: proc.Process) -> None:
    health = {
        "unit": "decode-0",
        "pid": process.pid,
        "beat_s": clock.uptime_s(),
        "roles": {"decode": {"port": True, "registered": True, "engine": "loading", "problem": "it reads"}},
        "sees": {"decode": 2},
        "bus": {"etcd": "up", "nats": "down"},
    }
    write_json(node.unit() / "health.json", health)
    seen = node.state(process)
    assert seen.roles == {"decode": RoleHealth(True, True, "loading", "it reads")}
    assert seen.sees == {"decode": 2}
    assert seen.responding
    write_json(node.unit() / "health.json", {**health, "beat_s": clock.uptime_s() - 100})
    assert node.state(process).responding is False
    write_json(node.unit() / "health.json", {**health, "pid": 1})  # of an earlier process
    assert node.state(process).roles == {}


def test_a_process_without_a_supervisor(node: Node, process: proc.Process) -> None:
    gone = {"pid": process.pid, "starttime": process.starttime + 1}
    seen = node.state(process, supervisor=gone)
    assert (seen.alive, seen.supervised, seen.phase) == (True, False, "running")


def test_a_supervisor_that_waits_to_start_again(node: Node, process: proc.Process) -> None:
    seen = node.state(None, phase="waiting", supervisor=supervisor(process), restarts=1, exit={"signal": 9})
    assert (seen.alive, seen.supervised, seen.phase, seen.pid) == (False, True, "waiting", None)


def test_a_reused_pid_is_somebody_else(node: Node, process: proc.Process) -> None:
    seen = node.state(proc.Process(process.pid, process.starttime - 1))
    assert (seen.alive, seen.phase, seen.pid) == (False, "dead", None)


def test_another_boot_is_history(node: Node, process: proc.Process) -> None:
    seen = node.state(process, boot_id="another", supervisor=supervisor(process))
    assert (seen.alive, seen.supervised, seen.phase) == (False, False, "dead")


def test_a_zombie_does_not_live(node: Node) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as popen:
        stat = proc.stat_of(popen.pid)
        assert stat is not None
        popen.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT)  # ended, and not waited for
        assert node.state(stat.process, supervisor=supervisor(stat.process)) == UnitSeen(
            "decode-0", "d1", "dead", alive=False, supervised=False, listens=()
        )


@pytest.mark.parametrize("phase", ["failed", "stopped"])
def test_an_end_that_was_written_down_stays(node: Node, phase: str) -> None:
    seen = node.state(None, phase=phase, restarts=5, exit={"code": 3})
    assert (seen.phase, seen.restarts, seen.exit) == (phase, 5, {"code": 3})


def test_a_program_of_any_name_is_found_in_its_stat_line(node: Node, tmp_path: Path) -> None:
    program = tmp_path / "a) R (b c"
    program.symlink_to(sys.executable)
    with subprocess.Popen([str(program), "-c", "import time; time.sleep(600)"]) as popen:
        try:
            stat = proc.stat_of(popen.pid)
            assert stat is not None
            assert node.state(stat.process).alive
        finally:
            popen.kill()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        '{"unit": "decode-0", "digest": "d1", "phase": "runn',
        "[1]",
        "null",
        '{"pid": 1}',
        '{"phase": "running", "pid": 1, "starttime": 1, "supervisor": [1]}',
        '{"phase": "running", "restarts": "many"}',
        '{"phase": "running", "exit": 7}',
        '{"phase": "running", "listens": 7}',
    ],
)
def test_a_state_that_is_torn_or_nonsense_is_a_half_started_unit(node: Node, text: str | None) -> None:
    folder = node.unit()
    if text is not None:
        (folder / "state.json").write_text(text)
    assert node.look().units == {
        "decode-0": UnitSeen("decode-0", None, "unknown", alive=False, supervised=False)
    }


@pytest.mark.parametrize("text", ["{", "[]", '{"pid": PID, "roles": [1]}', '{"pid": PID, "beat_s": null}'])
def test_health_that_is_torn_or_nonsense_is_none(node: Node, process: proc.Process, text: str) -> None:
    (node.unit() / "health.json").write_text(text.replace("PID", str(process.pid)))
    seen = node.state(process)
    assert (seen.alive, seen.roles, seen.beat_age_s) == (True, {}, None)


def test_figures_count_while_they_are_fresh_and_of_this_very_process(
    node: Node, process: proc.Process
) -> None:
    def told(**values: object) -> dict[str, object] | None:
        write_json(node.unit() / "figures.json", {"minute": {}, **values})
        return node.state(process).figures

    now_s = clock.uptime_s()
    assert told(pid=process.pid, beat_s=now_s) == {"minute": {}, "pid": process.pid, "beat_s": now_s}
    assert told(pid=process.pid, beat_s=now_s - 60) is None
    assert told(pid=process.pid + 1, beat_s=now_s) is None
    assert told(pid=process.pid, beat_s="soon") is None
    (node.unit() / "figures.json").write_text("{")
    assert node.state(process).figures is None


def test_several_units_in_their_order_and_plain_files_between_them(node: Node, process: proc.Process) -> None:
    for name in ("router-0", "etcd", "decode-10"):
        node.state(process, name)
    (node.base / "units" / "note").write_text("not a unit")
    assert list(node.look().units) == ["decode-10", "etcd", "router-0"]

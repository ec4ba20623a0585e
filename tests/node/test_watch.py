"""Verb `watch`: ready, failed, stuck or late, with the reason; and `look`, which shares its views."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dyno_node import proc, watch
from tests.node.program import PROGRAMS, PYTHON, Program, kill_supervisor, process, state, until

ROLE = (PYTHON, str(PROGRAMS / "role.py"))


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def watched(program: Program, *folders: Path, **more: Any) -> list[dict[str, Any]]:
    request = {"units": [str(folder) for folder in folders], "stuck_s": 20, "deadline_s": 40, **more}
    return program.lines("watch", request)


def test_it_streams_changes_until_all_ports_listen(program: Program, port: int) -> None:
    folder = program.unit(argv=[*ROLE, str(port), "0.4", "0"], listens=[port])
    program.start(folder)
    *lines, last = watched(program, folder)
    assert lines[0]["listening"] == {str(port): False}
    assert lines[-1]["listening"] == {str(port): True}
    assert lines[0]["phase"] == "running"
    assert (last["done"], last["reason"], last["why"], last["tail"]) == (True, "ready", {}, {})
    assert last["units"]["a-0"]["pid"] == process(folder).pid


def test_a_port_held_by_a_child_counts_and_a_strangers_does_not(program: Program, port: int) -> None:
    folder = program.unit(argv=[*ROLE, str(port), "0", "0", "child"], listens=[port])
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = int(server.getsockname()[1])
        other = program.unit("b-0", listens=[taken])
        program.start(folder)
        program.start(other)
        assert watched(program, folder)[-1]["reason"] == "ready"
        last = watched(program, other, deadline_s=0.2)[-1]
    assert last["reason"] == "deadline"
    assert last["why"] == {"b-0": f"b-0 does not listen on port {taken}"}


def test_goals_above_listening_go_by_what_the_process_says(program: Program, port: int) -> None:
    folder = program.unit(argv=[*ROLE, str(port), "0", "0.4"], listens=[port])
    program.start(folder)
    last = watched(program, folder, until="registered")[-1]
    assert last["units"]["a-0"]["health"]["roles"]["decode"]["registered"] is True
    last = watched(program, folder, until="engine_ready")[-1]
    assert (last["reason"], last["units"]["a-0"]["responding"]) == ("ready", True)
    assert last["units"]["a-0"]["health"]["roles"]["decode"]["engine"] == "ready"


def test_the_health_of_an_earlier_process_does_not_count(program: Program, port: int) -> None:
    folder = program.unit(argv=[*ROLE, str(port), "0", "0"])
    program.start(folder)
    assert watched(program, folder, until="engine_ready")[-1]["reason"] == "ready"
    program.stop(folder)
    program.unit()  # says nothing of itself
    program.start(folder)
    last = watched(program, folder, until="registered", deadline_s=0.2)[-1]
    assert (last["reason"], last["units"]["a-0"]["health"]) == ("deadline", None)
    assert last["why"] == {"a-0": "a-0 is not ready"}


def test_a_failed_engine_ends_it_with_its_problem(program: Program, port: int) -> None:
    folder = program.unit(argv=[*ROLE, str(port), "0", "failed"], listens=[port])
    program.start(folder)
    last = watched(program, folder, until="engine_ready")[-1]
    assert last["why"] == {"a-0": "decode: no such model"}
    assert last["reason"] == "failed"


def test_a_crash_ends_it_at_once_with_the_tail(program: Program) -> None:
    script = "sleep 0.4; echo out of memory >&2; exit 9"
    once = {"max": 5, "within_s": 300, "first_wait_s": 600, "longest_wait_s": 600}
    folder = program.unit(argv=["/bin/sh", "-c", script], listens=[1], restart=once)
    fine = program.unit("b-0")
    program.start(folder)
    program.start(fine)
    last = watched(program, folder, fine)[-1]
    assert (last["reason"], last["why"]) == ("failed", {"a-0": "a-0 ended with exit code 9"})
    assert "out of memory" in last["tail"]["a-0"]


def test_who_failed_comes_before_those_that_wait_for_it(program: Program, port: int) -> None:
    waits, fails = program.unit("a-0", listens=[port]), program.unit("b-0")
    program.start(waits)
    program.start(fails)
    with program.popen(
        "watch", {"units": [str(waits), str(fails)], "until": "registered", "deadline_s": 40}
    ) as watcher:
        assert watcher.stdout is not None
        watcher.stdout.readline()
        proc.send(process(fails), signal.SIGKILL)
        last = json.loads(watcher.stdout.read().splitlines()[-1])
        assert watcher.stderr is not None
        assert watcher.stderr.read() == ""
    assert last["reason"] == "failed"
    assert list(last["why"].items()) == [
        ("b-0", "b-0 was ended by SIGKILL"),
        ("a-0", f"a-0 does not listen on port {port}"),
    ]


def test_a_unit_that_was_given_up_says_why(program: Program) -> None:
    folder = program.unit(argv=["/no/such/program"])
    program.start(folder)
    last = watched(program, folder)[-1]
    assert last["why"] == {"a-0": "cannot start /no/such/program: No such file or directory"}


def test_units_that_do_not_run_are_told_apart(program: Program) -> None:
    folder = program.unit()
    assert watched(program, folder)[-1]["why"] == {"a-0": "a-0 was never started"}
    program.start(folder)
    program.stop(folder)
    assert watched(program, folder)[-1]["why"] == {"a-0": "a-0 was stopped"}
    program.start(folder)
    kill_supervisor(folder)
    its = process(folder)
    assert proc.send(its, 9)
    assert proc.wait_gone([its], 10.0) == []
    assert watched(program, folder)[-1]["why"] == {"a-0": "a-0 is gone, and its supervisor too"}


def test_a_unit_that_does_not_move_is_stuck(program: Program) -> None:
    folder = program.unit(listens=[1])
    program.start(folder)
    last = watched(program, folder, stuck_s=1)[-1]
    assert last["reason"] == "stuck"
    assert last["why"] == {"a-0": "a-0 does not listen on port 1; nothing moved for 1 s"}
    assert "started pid" in last["tail"]["a-0"][-1]


@pytest.mark.parametrize(
    "code",
    [
        "import time\nwhile True: print('loading', flush=True); time.sleep(0.1)",
        "while True: sum(range(1000))",
    ],
    ids=["log", "cpu"],
)
def test_a_unit_that_moves_is_late_and_not_stuck(program: Program, code: str) -> None:
    folder = program.unit(argv=[PYTHON, "-c", code], listens=[1])
    program.start(folder)
    assert watched(program, folder, stuck_s=1, deadline_s=3)[-1]["reason"] == "deadline"


def test_a_heart_that_beats_is_no_progress(program: Program) -> None:
    beat = (
        "import json, os, time\n"
        "while True:\n"
        "    beat_s = time.clock_gettime(time.CLOCK_BOOTTIME)\n"
        "    open('tmp', 'w').write(json.dumps({'pid': os.getpid(), 'beat_s': beat_s, 'roles': {}}))\n"
        "    os.replace('tmp', 'health.json'); time.sleep(0.5)\n"
    )
    folder = program.unit(argv=[PYTHON, "-c", beat], listens=[1])
    program.start(folder)
    until(lambda: (folder / "health.json").exists(), "a beat")
    assert watched(program, folder, stuck_s=2)[-1]["reason"] == "stuck"


def test_a_watcher_ends_when_nobody_reads(program: Program) -> None:
    folder = program.unit(listens=[1])
    program.start(folder)
    with program.popen("watch", {"units": [str(folder)]}) as watcher:
        assert watcher.stdout is not None
        assert json.loads(watcher.stdout.readline())["phase"] == "running"
        watcher.stdout.close()
        assert watcher.wait(20) == 0
        assert watcher.stderr is not None
        assert watcher.stderr.read() == ""


def test_a_watcher_on_a_socket_ends_with_its_peer_and_not_before(program: Program) -> None:
    """As under sshd: one socket pair, whose other end stops sending long before it stops reading."""
    folder = program.unit(listens=[1])
    program.start(folder)
    ours, its = socket.socketpair()
    with (
        ours,
        subprocess.Popen([*program.command, "watch"], stdin=its.fileno(), stdout=its.fileno()) as watcher,
    ):
        its.close()
        ours.sendall(json.dumps({"units": [str(folder)], "stuck_s": 600}).encode())
        ours.shutdown(socket.SHUT_WR)
        assert json.loads(ours.makefile().readline())["phase"] == "running"
        with pytest.raises(subprocess.TimeoutExpired):
            watcher.wait(0.3)
        ours.close()
        assert watcher.wait(20) == 0


def test_a_unit_under_restart_is_seen_as_such(program: Program) -> None:
    slow = {"max": 5, "within_s": 300, "first_wait_s": 600, "longest_wait_s": 600}
    folder = program.unit(argv=["/bin/sh", "-c", "sleep 0.3; exit 1"], restart=slow)
    program.start(folder)
    until(lambda: state(folder)["phase"] == "waiting", "the crash")
    view = program.view(folder)
    assert (view["phase"], view["supervised"], view["pid"]) == ("waiting", True, None)
    assert view["exit"] == {"code": 1}


def view(**more: Any) -> dict[str, Any]:
    role = {"registered": True, "engine": "ready", "problem": None}
    base = {"unit": "a-0", "phase": "running", "restarts": 0, "exit": None, "problem": None, "listening": {}}
    return {**base, "responding": True, "health": {"roles": {"decode": role}, "sees": {"decode": 1}}, **more}


def test_goals_and_expected_counts() -> None:
    assert watch.arrived(view(), "engine_ready")
    assert not watch.arrived(view(responding=False), "registered")
    assert not watch.arrived(view(health=None), "registered")
    assert watch.arrived(view(health=None, responding=None), "listening")
    assert not watch.arrived(view(phase="starting"), "listening")
    assert not watch.arrived(view(listening={"80": False}), "listening")
    two = watch.Counted(("decode",), {"decode": 2})
    assert two.short(view()) == "decode 1 of 2"
    assert not watch.arrived(view(), "registered", two)
    assert watch.arrived(view(), "registered", watch.Counted(("frontend",), {"decode": 2}))


def test_restarts_from_before_are_no_failure() -> None:
    assert watch.failure(view(restarts=2), 2) is None
    assert watch.failure(view(restarts=3, exit={"signal": 9}), 2) == "a-0 was ended by SIGKILL"
    assert watch.failure(view(phase="stopping"), 0) == "a-0 is being stopped"
    assert watch.failure(view(phase="unreadable"), 0) == "a-0 has an unreadable state.json"

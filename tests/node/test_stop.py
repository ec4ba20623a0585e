"""Verb `stop`: everything that came out of a unit is gone, whoever is left to end it, and nobody else is touched."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from dyno_node import lock, proc, stop
from tests.node.program import (
    FOREVER,
    PROGRAMS,
    PYTHON,
    Program,
    evil,
    kill_supervisor,
    no_cgroup_left,
    process,
    state,
    stranger,
    supervisor,
    until,
)

EVIL = (PYTHON, str(PROGRAMS / "evil.py"))


def copy_of_evil(program: Program) -> tuple[str, str]:
    """Another user may not read the checkout."""
    program.root.chmod(0o755)
    copy = program.root / "evil.py"
    copy.write_text((PROGRAMS / "evil.py").read_text())
    copy.chmod(0o644)
    return (PYTHON, str(copy))


def test_a_stopped_unit_is_gone_and_says_how_it_ended(program: Program) -> None:
    folder = program.unit()
    program.start(folder)
    its = [process(folder), supervisor(folder)]
    assert program.stop(folder) == {"ok": True, "left": [], "was": "supervised"}
    assert not any(proc.alive(each) for each in its)
    now = state(folder)
    assert (now["phase"], now["pid"], now["exit"]) == ("stopped", None, {"signal": 15})
    assert no_cgroup_left(folder)


def test_a_stop_again_and_a_stop_of_nothing_are_fine(program: Program) -> None:
    folder = program.unit()
    assert program.stop(folder) == {"ok": True, "left": [], "was": "never started"}
    assert program.stop(folder / "elsewhere") == {"ok": True, "left": [], "was": "never started"}
    program.start(folder)
    program.stop(folder)
    assert program.stop(folder) == {"ok": True, "left": [], "was": "stopped"}


def test_evil_processes_end(program: Program) -> None:
    folder = program.unit(argv=EVIL)
    program.start(folder)
    its = evil(folder)
    assert program.stop(folder, 0.1)["left"] == []
    assert not any(proc.alive(each) for each in its)


def test_evil_processes_end_without_a_cgroup(plain: Program) -> None:
    folder = plain.unit(argv=copy_of_evil(plain))
    plain.start(folder)
    its = evil(folder)
    assert state(folder)["cgroup"] is None or plain.user is None
    assert plain.stop(folder, 0.1)["left"] == []
    assert not any(proc.alive(each) for each in its)


def test_evil_processes_end_when_their_supervisor_was_killed(program: Program) -> None:
    folder = program.unit(argv=EVIL)
    program.start(folder)
    its = evil(folder)
    bare = state(folder)["cgroup"] is None
    kill_supervisor(folder)
    answer = program.stop(folder, 0.1)
    assert (answer["left"], answer["was"]) == ([], "without a supervisor")
    # Without a cgroup, nothing tells of one that escaped, cleared its environment, and lost its supervisor.
    alive = [each for each in its if proc.alive(each)]
    for each in alive:
        proc.send(each, signal.SIGKILL)
    assert len(alive) <= bare
    assert state(folder)["phase"] == "stopped"
    assert no_cgroup_left(folder)


def test_marks_find_them_without_supervisor_and_cgroup(plain: Program) -> None:
    folder = plain.unit(argv=(*copy_of_evil(plain), "--keep-environment"))
    plain.start(folder)
    its = evil(folder)
    kill_supervisor(folder)
    main = process(folder)
    proc.send(main, signal.SIGKILL)
    proc.wait_gone([main], 10.0)
    assert plain.stop(folder, 0.1) == {"ok": True, "left": [], "was": "dead"}
    assert not any(proc.alive(each) for each in its)


def test_a_process_that_drains_gets_its_grace_and_keeps_its_helpers(program: Program) -> None:
    drain = (
        "import signal, subprocess, sys, time\n"
        "helper = subprocess.Popen(['/bin/sleep', '600'])\n"
        "def term(*_):\n"
        "    time.sleep(0.3)\n"
        "    print('helper', helper.poll(), flush=True)\n"
        "    helper.kill(); helper.wait(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, term)\n"
        "print('up', flush=True)\n"
        "signal.pause()\n"
    )
    folder = program.unit(argv=(PYTHON, "-c", drain))
    program.start(folder)
    until(lambda: "up" in (folder / "log").read_text(), "the service")
    assert program.stop(folder, 10.0)["ok"]
    assert state(folder)["exit"] == {"code": 0}
    assert "helper None" in (folder / "log").read_text().splitlines()


def test_the_grace_of_the_request_counts_and_then_it_is_killed(program: Program) -> None:
    ignore = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    folder = program.unit(argv=(PYTHON, "-c", ignore), stop_grace_s=600.0)
    program.start(folder)
    until(lambda: "up" in (folder / "log").read_text(), "the service")
    assert program.stop(folder, 0.05)["ok"]
    assert state(folder)["exit"] == {"signal": 9}


def test_a_paused_process_ends(program: Program) -> None:
    folder = program.unit()
    program.start(folder)
    proc.send(process(folder), signal.SIGSTOP)
    assert program.stop(folder, 5.0)["ok"]
    assert state(folder)["exit"] == {"signal": 15}


def test_a_paused_supervisor_stops_its_unit(program: Program) -> None:
    folder = program.unit()
    program.start(folder)
    its = [process(folder), supervisor(folder)]
    proc.send(its[1], signal.SIGSTOP)
    assert program.stop(folder) == {"ok": True, "left": [], "was": "supervised"}
    assert not any(proc.alive(each) for each in its)


def test_a_supervisor_that_dies_while_it_stops_is_replaced_by_the_stop(program: Program) -> None:
    folder = program.unit(argv=EVIL)
    program.start(folder)
    its = [*evil(folder), supervisor(folder)]
    with program.popen("stop", {"unit_dir": str(folder), "grace_s": 0.5}) as stopping:
        until(lambda: state(folder)["phase"] == "stopping", "the stop")
        proc.send(its[-1], signal.SIGKILL)
        answer = json.loads(stopping.communicate()[0])
    assert answer["left"] == []
    alive = [each for each in its if proc.alive(each)]
    for each in alive:  # as above: one may have cleared its environment
        proc.send(each, signal.SIGKILL)
    assert len(alive) <= (state(folder)["cgroup"] is None and not no_cgroup_left(folder))


def test_sigterm_to_the_supervisor_is_a_stop(program: Program) -> None:
    folder = program.unit(argv=EVIL)
    program.start(folder)
    its = [*evil(folder), supervisor(folder)]
    proc.send(supervisor(folder), signal.SIGTERM)
    assert proc.wait_gone(its, 20.0) == []
    assert state(folder)["phase"] == "stopped"


def test_a_stop_while_it_waits_for_its_restart_is_quick(program: Program) -> None:
    slow = {"max": 5, "within_s": 300.0, "first_wait_s": 600.0, "longest_wait_s": 600.0}
    folder = program.unit(argv=("/bin/sh", "-c", "sleep 0.4; exit 1"), restart=slow)
    program.start(folder)
    until(lambda: state(folder)["phase"] == "waiting", "the crash")
    assert program.start(folder)["phase"] == "waiting"
    assert program.stop(folder)["ok"]
    assert state(folder)["phase"] == "stopped"


@pytest.mark.parametrize(
    ("wrong", "was"), [({"starttime": 1}, "dead"), ({"boot_id": "another"}, "of an earlier boot")]
)
def test_a_reused_pid_is_never_signalled(program: Program, wrong: dict[str, object], was: str) -> None:
    folder = program.unit()
    program.start(folder)
    program.stop(folder)
    with stranger() as other:
        claim = {"phase": "running", "pid": other.pid, "starttime": other.starttime}
        claim["supervisor"] = {"pid": other.pid, "starttime": other.starttime}
        (folder / "state.json").write_text(json.dumps({**state(folder), **claim, **wrong}))
        assert program.stop(folder) == {"ok": True, "left": [], "was": was}
        assert state(folder)["phase"] == "stopped"


def test_the_note_of_an_earlier_boot_costs_no_stranger_his_life(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop, "_NOTE_S", 0.1)
    folder = program.unit()
    with stranger() as other, lock.take(folder / "supervisor.lock", 1.0) as held:  # type: ignore[union-attr]
        held.note({"pid": other.pid, "starttime": other.starttime, "boot_id": "an-earlier-boot"})
        answer = stop.stop({"unit_dir": str(folder), "grace_s": 0.1})
        error = "a supervisor holds the unit and does not say who it is"
        assert answer == {"ok": False, "error": error, "left": []}
        assert proc.alive(other)


def test_a_torn_state_does_not_hide_what_runs(program: Program) -> None:
    folder = program.unit()
    program.start(folder)
    its = process(folder)
    kill_supervisor(folder)
    (folder / "state.json").write_text('{"unit": "a-0", "dig')
    assert program.stop(folder) == {"ok": True, "left": [], "was": "unreadable"}
    assert not proc.alive(its)
    assert not (folder / "state.json").exists()


def test_a_unit_of_the_same_name_in_another_folder_lives_on(program: Program, tmp_path: Path) -> None:
    folder = program.unit()
    program.start(folder)
    other = Program(Path(program.command[-1]), tmp_path / "other")
    other.root.mkdir()
    twin = other.unit()
    try:
        assert other.start(twin)["ok"]
        assert program.stop(folder)["ok"]
        assert proc.alive(process(twin))
        assert other.view(twin)["phase"] == "running"
    finally:
        other.end()


def test_stop_and_start_at_random_deaths_always_converge(program: Program) -> None:
    """Kill whatever works on the unit, again and again: one start brings one process, one stop brings none."""
    folder = program.unit(argv=FOREVER)
    for round_ in range(6):
        program.start(folder)
        victim = supervisor(folder) if round_ % 2 else process(folder)
        with program.popen("stop", {"unit_dir": str(folder), "grace_s": 0.2}) as dying:
            proc.send(victim, signal.SIGKILL)
            if round_ % 3 == 0:
                dying.kill()
            dying.communicate()
        assert program.start(folder)["ok"]
        assert proc.alive(process(folder))
        assert program.stop(folder)["left"] == []

"""A unit that ends by itself: started again, more and more slowly, and at last given up."""

from __future__ import annotations

import signal

from dyno_node import proc, restart
from dyno_node.unit import Restart
from tests.node.program import Program, process, state, supervisor, until


def test_a_crash_is_followed_by_a_restart(program: Program) -> None:
    folder = program.unit()
    program.start(folder)
    first = process(folder)
    proc.send(first, signal.SIGKILL)
    until(lambda: state(folder)["restarts"] == 1 and state(folder)["phase"] == "running", "a restart")
    assert process(folder) != first
    assert state(folder)["exit"] == {"signal": 9}
    log = (folder / "log").read_text()
    assert "a-0: was ended by SIGKILL; starting again in 0.0 s" in log


def test_an_end_with_code_0_that_nobody_asked_for_is_a_crash(program: Program) -> None:
    folder = program.unit(argv=("/bin/sh", "-c", "sleep 0.3"))
    program.start(folder)
    until(lambda: state(folder)["restarts"] >= 1, "a restart")
    assert state(folder)["exit"] == {"code": 0}


def test_after_too_many_crashes_it_is_given_up(program: Program) -> None:
    folder = program.unit(argv=("/bin/sh", "-c", "sleep 0.2; echo no memory; exit 7"))
    assert program.start(folder)["ok"]
    its = supervisor(folder)
    until(lambda: state(folder)["phase"] == "failed", "the end of patience")
    now = state(folder)
    assert (now["restarts"], now["pid"], now["exit"]) == (3, None, {"code": 7})
    assert now["problem"] == "a-0 ended with exit code 7, once too often"
    assert proc.wait_gone([its], 10.0) == []
    assert (folder / "log").read_text().count("no memory") == 4
    assert program.start(folder)["ok"]  # and it may be tried again


def test_helpers_of_a_crashed_process_end_before_it_comes_back(program: Program) -> None:
    script = "/bin/sleep 600 & echo helper $!; sleep 0.3; exit 1"
    folder = program.unit(argv=("/bin/sh", "-c", script))
    program.start(folder)
    until(lambda: state(folder)["phase"] == "failed", "the end of patience")
    lines = (folder / "log").read_text().splitlines()
    helpers = [int(line.split()[1]) for line in lines if line.startswith("helper")]
    assert len(helpers) == 4
    for pid in helpers:
        stat = proc.stat_of(pid)
        assert stat is None or stat.dead or "sleep" not in proc.argv(pid)


def test_a_program_that_vanished_is_given_up_at_the_restart(program: Program) -> None:
    script = program.root / "script"
    script.write_text("#!/bin/sh\nsleep 0.3\n")
    script.chmod(0o755)
    folder = program.unit(argv=[str(script)])
    program.start(folder)
    script.unlink()
    until(lambda: state(folder)["phase"] == "failed", "the supervisor")
    assert state(folder)["problem"] == f"cannot start {script}: No such file or directory"
    assert state(folder)["exit"] == {"code": 0}


def test_a_disk_that_is_full_at_the_restart_is_one_more_crash(program: Program) -> None:
    folder = program.unit(
        restart={"max": 1000, "within_s": 1.0, "first_wait_s": 0.05, "longest_wait_s": 0.05}
    )
    program.start(folder)
    first = process(folder)
    (folder / "state.json.tmp").mkdir()  # no state can be written
    assert proc.send(first, signal.SIGKILL)
    problem = f"could not be started ({folder}/state.json.tmp: Is a directory); starting again in "
    until(lambda: problem in (folder / "log").read_text(), "a start that fails")
    assert proc.alive(supervisor(folder))
    (folder / "state.json.tmp").rmdir()
    until(lambda: state(folder)["phase"] == "running" and process(folder) != first, "the restart")
    assert proc.alive(process(folder))
    assert state(folder)["restarts"] >= 2


def test_a_start_that_fails_too_often_is_given_up(program: Program) -> None:
    folder = program.unit()
    program.start(folder)
    first = process(folder)
    (folder / "state.json.tmp").mkdir()
    assert proc.send(first, signal.SIGKILL)
    end = f"given up: a-0 could not be started ({folder}/state.json.tmp: Is a directory), once too often"
    until(lambda: end in (folder / "log").read_text(), "the end")
    (folder / "state.json.tmp").rmdir()


def test_waits_grow_with_the_crashes_of_the_window_and_then_end() -> None:
    policy = Restart(max=4, within_s=100.0, first_wait_s=0.5, longest_wait_s=3.0)
    crashes_s = [10.0, 11.0, 13.0, 16.0, 20.0]
    waits_s = [restart.next_wait_s(policy, crashes_s[:n], crashes_s[n - 1], 0.5) for n in range(1, 6)]
    assert waits_s == [0.5, 1.0, 2.0, 3.0, None]


def test_old_crashes_are_forgiven() -> None:
    policy = Restart(max=2, within_s=100.0, first_wait_s=0.5, longest_wait_s=30.0)
    assert restart.next_wait_s(policy, [1.0, 2.0, 200.0], 200.0, 0.5) == 0.5


def test_chance_moves_a_wait_by_a_quarter() -> None:
    policy = Restart(first_wait_s=4.0)
    assert [restart.next_wait_s(policy, [1.0], 1.0, chance) for chance in (0.0, 0.5, 1.0)] == [3.0, 4.0, 5.0]


def test_no_restart_at_all_may_be_asked_for() -> None:
    assert restart.next_wait_s(Restart(max=0), [1.0], 1.0, 0.5) is None

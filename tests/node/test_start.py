"""Verb `start`: what runs afterwards, and what the caller is told where nothing does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from dyno_node import proc
from tests.node.program import (
    FOREVER,
    PYTHON,
    Program,
    kill_supervisor,
    process,
    state,
    stranger,
    supervisor,
    until,
)


def test_a_started_unit_runs_and_its_state_says_so(program: Program) -> None:
    folder = program.unit(env={"COLOUR": "blue"})
    answer = program.start(folder)
    now = state(folder)
    assert answer == {"ok": True, "already": False, "adopted": False, "pid": now["pid"], "phase": "running"}
    assert (now["unit"], now["digest"], now["phase"], now["restarts"]) == ("a-0", "d1", "running", 0)
    assert proc.alive(process(folder))
    assert proc.alive(supervisor(folder))


def test_a_process_gets_its_own_variables_and_marks_and_little_of_the_callers(program: Program) -> None:
    folder = program.unit(env={"COLOUR": "blue"})
    program.start(folder, env={**os.environ, "OF_A_SHELL": "1", "LANG": "C.UTF-8"})
    its = proc.environ(process(folder).pid)
    assert (its["COLOUR"], its["LANG"], its["PATH"]) == ("blue", "C.UTF-8", os.environ["PATH"])
    assert (its["DYNO_UNIT"], its["DYNO_UNIT_DIR"]) == ("test/n1/a-0", str(folder))
    assert not {"OF_A_SHELL", "DYNO_SUPERVISOR", "PWD"} & its.keys()
    assert "COLOUR" not in proc.environ(supervisor(folder).pid)  # it may be a secret


def test_a_process_has_a_session_its_folder_no_input_and_default_signals(program: Program) -> None:
    folder = program.unit()
    program.start(folder)
    pid = process(folder).pid
    assert os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/cwd").readlink() == folder
    assert str(Path(f"/proc/{pid}/fd/0").readlink()) == "/dev/null"
    assert {path.name for path in Path(f"/proc/{pid}/fd").iterdir()} == {"0", "1", "2"}
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    ignored = next(line for line in status if line.startswith("SigIgn:")).split()[1]
    assert int(ignored, 16) & (1 << (signal.SIGHUP - 1)) == 0


def test_files_of_a_unit_are_for_its_user_only(program: Program) -> None:
    folder = program.unit()
    program.start(folder)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.name != "unit.json"}
    assert modes == {"state.json": 0o600, "log": 0o600, "supervisor.lock": 0o600, "verb.lock": 0o600}


def test_a_second_start_finds_it_running(program: Program) -> None:
    folder = program.unit()
    first = program.start(folder)
    again = program.start(folder)
    assert again == {**first, "already": True}


def test_another_digest_is_refused_while_it_runs(program: Program) -> None:
    folder = program.unit()
    pid = program.start(folder)["pid"]
    program.unit(digest="d2")
    error = "a-0 runs with digest d1, and d2 was asked for: stop it first"
    assert program.start(folder) == {"ok": False, "error": error}
    assert process(folder).pid == pid


def test_after_a_stop_another_digest_may_start(program: Program) -> None:
    folder = program.unit()
    program.start(folder)
    program.unit(digest="d2")
    assert program.stop(folder)["ok"]
    assert program.start(folder)["ok"]
    assert state(folder)["digest"] == "d2"


def test_many_starts_at_once_make_one_supervisor(program: Program) -> None:
    folder = program.unit()
    running = [program.popen("start", {"unit_dir": str(folder)}) for _ in range(4)]
    answers = [json.loads(each.communicate()[0]) for each in running]
    assert all(answer["ok"] for answer in answers)
    assert [answer["already"] for answer in answers].count(False) == 1
    assert len({answer["pid"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["/no/such/program"], "cannot start /no/such/program: No such file or directory"),
        (["no-such-program"], "there is no program no-such-program on the PATH of this node"),
        (["/etc/passwd"], "cannot start /etc/passwd: Permission denied"),
    ],
)
def test_a_program_that_cannot_be_executed_is_named(program: Program, argv: list[str], error: str) -> None:
    folder = program.unit(argv=argv)
    answer = program.start(folder)
    assert (answer["ok"], answer["error"]) == (False, error)
    assert (state(folder)["phase"], state(folder)["problem"]) == ("failed", error)
    assert program.view(folder)["supervised"] is False


def test_a_missing_interpreter_is_told_from_a_missing_program(program: Program, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/python\n")
    script.chmod(0o755)
    answer = program.start(program.unit(argv=[str(script)]))
    assert answer["error"] == f"cannot start {script}: the interpreter named in its first line is missing"


def test_a_unit_that_ends_at_once_is_not_tried_again(program: Program) -> None:
    folder = program.unit(argv=["/bin/sh", "-c", "echo no such model >&2; exit 3"])
    answer = program.start(folder)
    assert (answer["ok"], answer["error"]) == (False, "a-0 ended with exit code 3 at once")
    assert answer["exit"] == {"code": 3}
    assert "no such model" in answer["log"]
    assert (state(folder)["phase"], state(folder)["restarts"]) == ("failed", 0)
    assert not proc.alive(supervisor(folder)) or proc.wait_gone([supervisor(folder)], 10.0) == []


def test_a_failed_unit_may_be_started_again(program: Program) -> None:
    folder = program.unit(argv=["/bin/false"])
    assert not program.start(folder)["ok"]
    program.unit()
    assert program.start(folder)["ok"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "{path} is not there"),
        (
            "{",
            "{path} is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        ("[]", "{path}: it is not an object"),
    ],
)
def test_a_bad_unit_is_refused(program: Program, text: str | None, error: str) -> None:
    folder = program.unit()
    path = folder / "unit.json"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    assert program.start(folder) == {"ok": False, "error": error.format(path=path)}


def test_a_full_disk_is_named_and_nothing_runs(program: Program) -> None:
    folder = program.unit()
    shell = ["/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *program.command, "start"]
    request = json.dumps({"unit_dir": str(folder)})
    done = subprocess.run(shell, input=request, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert (answer["ok"], answer["error"]) == (
        False,
        "the supervisor cannot work: File too large",
    )
    assert program.view(folder)["supervised"] is False


def test_a_start_whose_caller_dies_leaves_what_the_next_start_understands(program: Program) -> None:
    for pause_s in (0.0, 0.03, 0.06, 0.09, 0.12, 0.15):
        folder = program.unit()
        with program.popen("start", {"unit_dir": str(folder)}) as dying:
            try:
                dying.wait(pause_s)
            except subprocess.TimeoutExpired:
                dying.kill()
        answer = program.start(folder)
        assert answer["ok"], answer
        assert program.stop(folder)["left"] == []


def test_a_killed_supervisor_leaves_the_unit_running_and_a_start_adopts_it(program: Program) -> None:
    folder = program.unit()
    pid = program.start(folder)["pid"]
    kill_supervisor(folder)
    assert proc.alive(process(folder))
    view = program.view(folder)
    assert (view["phase"], view["supervised"], view["pid"]) == ("running", False, pid)
    adopted = program.start(folder)
    assert adopted == {"ok": True, "already": False, "adopted": True, "pid": pid, "phase": "running"}
    assert program.view(folder)["supervised"] is True


def test_an_adopted_unit_is_started_again_after_a_crash(program: Program) -> None:
    folder = program.unit()
    program.start(folder)
    kill_supervisor(folder)
    program.start(folder)
    first = process(folder)
    proc.send(first, signal.SIGKILL)
    until(lambda: state(folder)["restarts"] == 1 and state(folder)["phase"] == "running", "a restart")
    assert state(folder)["exit"] == {"unknown": True}
    assert process(folder) != first


def test_a_unit_without_supervisor_and_with_another_digest_is_refused(program: Program) -> None:
    folder = program.unit()
    program.start(folder)
    kill_supervisor(folder)
    program.unit(digest="d2")
    error = "a-0 runs without a supervisor with digest d1, and d2 was asked for: stop it first"
    assert program.start(folder) == {"ok": False, "error": error}


def test_a_torn_state_is_survived_by_ending_what_the_marks_find(program: Program) -> None:
    folder = program.unit()
    program.start(folder)
    first = process(folder)
    kill_supervisor(folder)
    whole = (folder / "state.json").read_text()
    (folder / "state.json").write_text(whole[: len(whole) // 2])
    assert program.view(folder)["phase"] == "unreadable"
    answer = program.start(folder)
    assert (answer["ok"], answer["adopted"]) == (True, False)
    assert not proc.alive(first)


@pytest.mark.parametrize("wrong", [{"starttime": 1}, {"boot_id": "another"}])
def test_a_strangers_pid_in_the_state_is_not_adopted(program: Program, wrong: dict[str, object]) -> None:
    folder = program.unit()
    program.start(folder)
    program.stop(folder)
    with stranger() as other:
        claim = {"phase": "running", "pid": other.pid, "starttime": other.starttime}
        (folder / "state.json").write_text(json.dumps({**state(folder), **claim, **wrong}))
        assert program.view(folder)["phase"] == "gone"
        answer = program.start(folder)
        assert answer["adopted"] is False
        assert answer["pid"] != other.pid
        assert program.stop(folder)["ok"]


def test_it_runs_on_the_systems_own_python(pyz: Path, program: Program) -> None:
    program.command = [PYTHON, "-I", str(pyz)]
    folder = program.unit(argv=FOREVER)
    assert program.start(folder)["ok"]
    assert program.stop(folder) == {"ok": True, "left": [], "was": "supervised"}

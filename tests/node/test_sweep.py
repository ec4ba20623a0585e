"""Verb `sweep`: finds by marks and cgroups what no file tells of, ends it, and leaves everybody else alone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

from dyno_node import cgroup, proc
from tests.node.program import (
    FOREVER,
    PROGRAMS,
    PYTHON,
    Program,
    evil,
    kill_supervisor,
    process,
    state,
    supervisor,
    until,
)


def sweep(program: Program, **more: Any) -> dict[str, Any]:
    request = {"cluster": "test", "node": "n1", "under": str(program.root), "grace_s": 0.2, **more}
    return program.ask("sweep", request)


def test_nothing_is_found_where_nothing_is(program: Program) -> None:
    nothing = {"ok": True, "processes": [], "ports": [], "cgroups": [], "services": []}
    assert sweep(program, ports=[1]) == nothing
    assert sweep(program, stop=True) == nothing


def test_what_runs_is_listed_and_left_alone(program: Program) -> None:
    folder = program.unit()
    program.start(folder)
    found = sweep(program)
    named = {each["pid"]: (each["unit"], each["dir"], each["supervisor"]) for each in found["processes"]}
    assert named == {
        process(folder).pid: ("test/n1/a-0", str(folder), False),
        supervisor(folder).pid: ("test/n1/a-0", str(folder), True),
    }
    assert found["cgroups"] == ([state(folder)["cgroup"]] if state(folder)["cgroup"] else [])
    assert proc.alive(process(folder))


def test_units_whose_files_are_gone_are_ended_by_their_marks(program: Program) -> None:
    folder = program.unit(argv=(PYTHON, str(PROGRAMS / "evil.py")))
    program.start(folder)
    its = [*evil(folder), supervisor(folder)]
    shutil.rmtree(folder)
    assert sweep(program, stop=True)["processes"] == []
    assert not any(proc.alive(each) for each in its)
    assert sweep(program)["cgroups"] == []


def test_strays_of_a_killed_supervisor_are_ended(program: Program) -> None:
    folder = program.unit(argv=(PYTHON, str(PROGRAMS / "evil.py"), "--keep-environment"))
    program.start(folder)
    its = evil(folder)
    kill_supervisor(folder)
    shutil.rmtree(folder)
    assert sweep(program, stop=True)["ok"]
    assert not any(proc.alive(each) for each in its)


def test_other_nodes_clusters_and_folders_are_left_alone(program: Program, tmp_path: Path) -> None:
    folder = program.unit()
    program.start(folder)
    here = str(tmp_path)
    for other in ({"cluster": "tes"}, {"node": "n"}, {"under": f"{here}/unit"}, {"under": f"{here}/units/a"}):
        assert sweep(program, stop=True, **other)["processes"] == [], other
    assert proc.alive(process(folder))
    assert program.view(folder)["restarts"] == 0


def test_ports_are_listed_with_their_owner(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = sweep(program, ports=[port])["ports"]
        assert (found["port"], found["pid"]) == (port, os.getpid())
        assert found["argv"] == proc.argv(os.getpid())


def test_an_unmarked_process_in_our_cgroup_is_found(program: Program) -> None:
    with subprocess.Popen(FOREVER) as popen:
        try:
            group = cgroup.place(cgroup.name_for("test/n1/x-0", program.root / "x"), popen.pid)
            if group is None:
                assert sweep(program)["processes"] == []
                return
            (found,) = sweep(program)["processes"]
            assert (found["pid"], found["unit"], found["supervisor"]) == (popen.pid, None, False)
            assert sweep(program, stop=True)["ok"]
            until(lambda: popen.poll() is not None, "its end")
            assert not Path(group).exists()
        finally:
            popen.kill()

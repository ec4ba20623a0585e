"""Carrying a plan out: phases in order, nodes side by side, and every way to stop in the middle."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dynoctl.errors import CommandFailed, Exit, NodeError, Unreachable
from dynoctl.plan import steps
from dynoctl.plan.results import StepResult
from dynoctl.plan.steps import (
    Artifact,
    Phase,
    PhaseName,
    Plan,
    ProveGone,
    PurgeServices,
    Push,
    RemoveCluster,
    StartUnit,
    StopUnit,
    UnitSpec,
)
from dynoctl.remote.execute import Events, execute
from tests.dynoctl.remote.nodes import answering, asked, fails, fleet, hosts, means, refusing, verb


def start(node: str, name: str) -> StartUnit:
    spec = UnitSpec(name, node, ("decode",), f"/r/units/{name}", {"listens": []}, digest="d")
    return StartUnit(node, "why", spec)


def stop(node: str, name: str) -> StopUnit:
    return StopUnit(node, "why", name, f"/r/units/{name}", 1.0, serves=True)


def plan(**phases: tuple[steps.Step, ...]) -> Plan:
    names: dict[str, PhaseName] = {"prepare": "prepare", "stop": "stop", "roles": "roles", "remove": "remove"}
    return Plan("c", "up", 1, tuple(Phase(names[name], found) for name, found in phases.items()))


class Told:
    """What a run said, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.events = Events(
            on_phase=lambda phase: self.lines.append(f"= {phase.name}"),
            on_progress=lambda step, said: self.lines.append(f"{step.node} {step.title}: {said}"),
            on_step=lambda step, result: self.lines.append(
                f"{step.node} {step.title}: {result.error or 'done'}"
            ),
        )


def test_phases_come_one_after_the_other_and_steps_in_the_order_of_their_node() -> None:
    made, told = hosts("n1", "n2"), Told()
    whole = plan(
        prepare=(RemoveCluster("n1", "w", "/r/x"),),
        stop=(),
        roles=(start("n1", "a-0"), start("n1", "b-0"), start("n2", "a-0")),
    )
    results = execute(whole, fleet(made, window=1), means("n1", "n2"), told.events)
    assert told.lines == [
        "= prepare",
        "n1 remove its folder: done",
        "= roles",
        "n1 start a-0: done",
        "n1 start b-0: done",
        "n2 start a-0: done",
    ]
    assert [(result.node, result.title, result.error) for result in results] == [
        ("n1", "remove its folder", None),
        ("n1", "start a-0", None),
        ("n1", "start b-0", None),
        ("n2", "start a-0", None),
    ]
    assert len(asked(made["n1"])) == 2  # one exec a phase, whatever the number of steps
    # Units that start are neighbours: the node program starts them side by side.
    dos = [action["do"] for action in asked(made["n1"])[1]["actions"]]
    assert dos == ["write", "write", "start", "start"]
    assert asked(made["n1"])[0]["root"] == "/r"


def test_a_push_is_there_before_what_uses_it_and_archives_are_unpacked() -> None:
    made, told = hosts("n1"), Told()
    plain = Push("n1", "w", Artifact("bin/0/x", 3, 0o700, title="x"), "/r")
    packed = Push("n1", "w", Artifact("code/0/.complete", 3, archive=True, title="code"), "/r")
    execute(plan(prepare=(packed, plain)), fleet(made), means("n1"), told.events)
    assert {path: (file.content, file.mode) for path, file in made["n1"].files.items()} == {
        "/r/bin/0/x": (b"bin/0/x", 0o700),
        "/r/code/0.zip": (b"code/0/.complete", 0o600),
    }
    assert told.lines == [
        "= prepare",
        "n1 push code (3 B): sending",
        "n1 push x (3 B): sending",
        "n1 push x (3 B): done",
        "n1 push code (3 B): done",
    ]


def test_progress_of_the_node_is_passed_on() -> None:
    def answers(request: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"action": 0, "progress": "installing"},
            {"unknown": 1},
            {"action": 9, "ok": False},
            {"action": 0, "ok": True},
        ]

    made, told = hosts("n1", apply=answers), Told()
    execute(plan(prepare=(RemoveCluster("n1", "w", "/r/x"),)), fleet(made), means("n1"), told.events)
    assert told.lines[1:] == ["n1 remove its folder: installing", "n1 remove its folder: done"]


def test_a_refusal_is_an_error_with_the_units_last_lines() -> None:
    made = hosts(
        "n1", apply=refusing(1, error="decode-0 ended with exit status 1\nat once", log=["line 1", "line 2"])
    )
    told = Told()
    with pytest.raises(CommandFailed) as caught:
        execute(plan(roles=(start("n1", "decode-0"),)), fleet(made), means("n1"), told.events)
    error = caught.value
    assert str(error) == "n1: cannot start decode-0: decode-0 ended with exit status 1"
    assert error.detail == ("at once", "line 1", "line 2")
    assert error.exit == Exit.FAILED
    assert told.lines[-1] == (
        "n1 start decode-0: n1: cannot start decode-0: decode-0 ended with exit status 1"
    )


def test_a_full_disk_is_said_as_such() -> None:
    made = hosts("n1", apply=refusing(0, error="the disk is full (/r/units/decode-0/.unit.json.7)"))
    with pytest.raises(CommandFailed) as caught:
        execute(plan(roles=(start("n1", "decode-0"),)), fleet(made), means("n1"), Events())
    assert str(caught.value) == (
        "n1: cannot start decode-0: the disk is full (/r/units/decode-0/.unit.json.7)"
    )
    made = hosts("n1")
    made["n1"].faults.disk_full = True
    push = Push("n1", "w", Artifact("bin/0/x", 3, title="x"), "/r")
    with pytest.raises(CommandFailed) as caught:
        execute(plan(prepare=(push,)), fleet(made), means("n1"), Events())
    assert str(caught.value) == "n1: cannot write /r/bin/0/x: the disk is full"
    assert caught.value.next == "ssh n1 'df -h /r/bin/0'"


def test_what_a_stop_left_is_named() -> None:
    left = [{"pid": 7, "argv": "sleep", "why": "it is stuck in the kernel"}, "port 8000 listens"]
    made = hosts("n1", apply=refusing(0, error="2 processes do not end", left=left))
    with pytest.raises(CommandFailed) as caught:
        execute(plan(stop=(stop("n1", "a-0"),)), fleet(made), means("n1"), Events())
    assert caught.value.detail == (
        "pid 7, argv sleep, why it is stuck in the kernel",
        "port 8000 listens",
    )


def test_a_warning_is_kept_with_the_step_that_went_well() -> None:
    made = hosts("n1", apply=lambda request: [{"action": 0, "ok": True, "warning": "no linger"}])
    results = execute(plan(stop=(stop("n1", "a-0"),)), fleet(made), means("n1"), Events())
    assert [(result.error, result.detail) for result in results] == [(None, ("no linger",))]


def test_one_failing_node_stops_before_the_next_phase_and_the_others_finish_theirs() -> None:
    made, told = hosts("n1", "n2", "n3"), Told()
    answering(made["n1"], "apply", refusing(0, error="no"))
    answering(made["n3"], "apply", refusing(0, error="no, too"))
    whole = plan(
        stop=(stop("n1", "a-0"), stop("n2", "a-0"), stop("n3", "a-0")),
        roles=(start("n2", "b-0"),),
    )
    with pytest.raises(NodeError) as caught:
        execute(whole, fleet(made), means("n1", "n2", "n3"), told.events)
    assert str(caught.value) == "n1: cannot stop a-0: no"
    assert caught.value.detail == ("and n3: cannot stop a-0: no, too",)
    assert "n2 stop a-0: done" in told.lines
    assert "= roles" not in told.lines
    assert len(asked(made["n2"])) == 1


def test_go_on_carries_out_what_comes_after_a_refusal() -> None:
    """A worker that does not stop keeps no service up; whether all is gone is for the proof to say."""
    made = hosts("n1", "n2")
    stuck: list[Any] = [{"action": 0, "ok": False, "error": "no"}, {"action": 1, "ok": True, "took_s": 0.25}]
    answers = iter((stuck, [{"action": 0, "ok": True}, {"action": 1, "ok": True}]))
    answering(made["n1"], "apply", lambda request: next(answers))
    whole = plan(
        stop=(stop("n1", "a-0"), stop("n1", "b-0"), stop("n2", "a-0")),
        remove=(
            ProveGone("n1", "w", "c", ()),
            RemoveCluster("n1", "w", "/r/x"),
            RemoveCluster("n2", "w", "/r/x"),
        ),
    )
    results = execute(whole, fleet(made, window=1), means("n1", "n2"), Events(), go_on=True)
    assert [(result.node, result.title, result.error) for result in results] == [
        ("n1", "stop a-0", "n1: cannot stop a-0: no"),
        ("n1", "stop b-0", None),
        ("n2", "stop a-0", None),
        ("n1", "prove that nothing is left", None),
        ("n1", "remove its folder", None),
        ("n2", "remove its folder", None),
    ]
    assert results[1].seconds == 0.25


def test_go_on_keeps_the_folder_that_a_later_run_needs() -> None:
    made = hosts("n1")
    away: list[Any] = [{"action": 0, "ok": False, "error": "etcd is away"}]
    answers = iter((away, [{"action": 0, "ok": True}]))
    answering(made["n1"], "apply", lambda request: next(answers))
    whole = plan(
        stop=(PurgeServices("n1", "w", "python", "/code", "/settings.json", ("etcd",)),),
        remove=(ProveGone("n1", "w", "c", ()), RemoveCluster("n1", "w", "/r/x")),
    )
    results = execute(whole, fleet(made), means("n1"), Events(), go_on=True)
    title = "delete what this cluster keeps in the existing etcd"
    assert [(result.title, result.error) for result in results] == [
        (title, f"n1: cannot {title}: etcd is away"),
        ("prove that nothing is left", None),
    ]


def test_all_that_is_refused_at_once_is_named() -> None:
    both = [{"action": number, "ok": False, "error": f"no {number}"} for number in range(2)]
    made = hosts("n1", apply=lambda request: both)
    with pytest.raises(CommandFailed) as caught:
        execute(plan(stop=(stop("n1", "a-0"), stop("n1", "b-0"))), fleet(made), means("n1"), Events())
    assert str(caught.value) == "n1: cannot stop a-0: no 0"
    assert caught.value.detail == ("and n1: cannot stop b-0: no 1",)


def test_go_on_names_a_node_that_was_lost() -> None:
    made = hosts("n1", "n2")
    made["n1"].faults.dies_at = 1
    results = execute(
        plan(stop=(stop("n1", "a-0"), stop("n2", "a-0"))),
        fleet(made, window=1),
        means("n1", "n2"),
        Events(),
        go_on=True,
    )
    lost = "n1: the connection was lost while a command was running"
    assert results == [
        StepResult("n2", "stop a-0", results[0].seconds),
        StepResult("n1", "the rest of its steps", 0.0, lost),
    ]


def test_a_node_that_cannot_be_reached_any_more() -> None:
    made = hosts("n1")
    made["n1"].faults.connect = Unreachable("n1", "no route to host")
    with pytest.raises(Unreachable, match=r"^n1: no route to host$"):
        execute(plan(stop=(stop("n1", "a-0"),)), fleet(made), means("n1"), Events())


def test_a_node_program_that_ended_early_is_no_success() -> None:
    made = hosts("n1", apply=lambda request: [{"action": 0, "ok": True}])
    with pytest.raises(CommandFailed) as caught:
        execute(plan(stop=(stop("n1", "a-0"), stop("n1", "b-0"))), fleet(made), means("n1"), Events())
    assert str(caught.value) == "n1: the node program stopped before 'stop b-0'"


def test_a_node_program_that_cannot_run_shows_what_was_printed() -> None:
    made = hosts("n1")
    made["n1"].answer(verb("apply"), fails(2, "python3: can't open file '/r/node-0a.pyz'\n"))
    with pytest.raises(CommandFailed) as caught:
        execute(plan(stop=(stop("n1", "a-0"),)), fleet(made), means("n1"), Events())
    assert str(caught.value) == "n1: the node program failed at 'apply' with status 2"
    assert caught.value.detail == ("python3: can't open file '/r/node-0a.pyz'",)


def test_events_come_one_at_a_time_from_many_nodes() -> None:
    names = [f"n{number}" for number in range(40)]
    made = hosts(*names)
    inside = threading.Lock()
    count = 0

    def on_step(step: steps.Step, result: StepResult) -> None:
        nonlocal count
        assert inside.acquire(blocking=False)
        count += 1
        inside.release()

    whole = plan(stop=tuple(stop(name, "a-0") for name in names))
    results = execute(whole, fleet(made), means(*names), Events(on_step=on_step))
    assert count == len(results) == 40


def test_each_step_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 1000, 10))
    monkeypatch.setattr("dynoctl.remote.execute.time.monotonic", lambda: float(next(ticks)))
    made = hosts("n1")
    whole = plan(stop=(stop("n1", "a-0"), stop("n1", "b-0"), stop("n1", "c-0")))
    results = execute(whole, fleet(made), means("n1"), Events())
    assert [result.seconds for result in results] == [10.0, 10.0, 10.0]

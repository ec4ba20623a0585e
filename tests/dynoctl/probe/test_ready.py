"""The climb: states told at every change, the first bad news ends it, with the unit's own last words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dynoctl.errors import DynoctlError, NotReady, Unreachable
from dynoctl.plan.observed import RoleHealth
from dynoctl.plan.results import RoleState, Rung
from dynoctl.plan.steps import UnitSpec
from dynoctl.plan.unit_seen import read_view
from dynoctl.probe.ready import Board, climb

Views = Callable[[dict[str, Any], Callable[[dict[str, Any]], None]], dict[str, Any]]


def unit(name: str, *roles: str, node: str = "n1") -> UnitSpec:
    return UnitSpec(name, node, roles, f"/u/{name}", {"cluster": "c", "listens": [7000]})


SPECS = (unit("etcd", "etcd"), unit("decode-0", "decode"), unit("decode-0", "decode", node="n2"))


def view(name: str = "decode-0", engine: str = "ready", **more: Any) -> dict[str, Any]:
    said = {"port": True, "registered": True, "engine": engine, "problem": None}
    health = {"roles": {"decode": said}, "sees": {"decode": 2}, "bus": {"etcd": "up"}}
    values = {"unit": name, "phase": "running", "pid": 7, "supervised": True, "listening": {"7000": True}}
    return {**values, "responding": True, "restarts": 0, "digest": "d", "health": health, **more}


def end(reason: str = "ready", **more: Any) -> dict[str, Any]:
    return {"done": True, "reason": reason, "units": {"decode-0": view()}, "why": {}, "tail": {}, **more}


class Nodes:
    """Watches that say what a test wants, one node after the other."""

    def __init__(self, **watches: Views) -> None:
        self.watches = watches
        self.requests: dict[str, dict[str, Any]] = {}
        self.timeouts: set[float] = set()

    def watch(
        self,
        node: str,
        request: dict[str, Any],
        on_answer: Callable[[dict[str, Any]], None],
        timeout_s: float,
    ) -> dict[str, Any]:
        self.requests[node] = request
        self.timeouts.add(timeout_s)
        return self.watches[node](request, on_answer)

    def fan(
        self, nodes: tuple[str, ...], do: Callable[[str], dict[str, Any]]
    ) -> Iterator[tuple[str, dict[str, Any] | DynoctlError]]:
        for node in nodes:
            try:
                yield node, do(node)
            except DynoctlError as error:
                yield node, error


def ready(request: dict[str, Any], on_answer: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    on_answer(view(engine="loading"))
    on_answer(view(engine="loading"))
    return end()


def climbed(nodes: Nodes) -> tuple[tuple[RoleState, ...], list[str]]:
    told: list[str] = []
    board = Board(
        SPECS, lambda states, one: told.append(f"{one.node}/{one.unit} {one.rung.word}: {one.note}")
    )
    return climb(SPECS, board, nodes.watch, nodes.fan), told


def test_every_node_is_watched_until_its_engines_are_loaded() -> None:
    nodes = Nodes(n1=ready, n2=ready)
    states, told = climbed(nodes)
    assert told == [
        "n1/decode-0 registered: engine loading",
        "n1/decode-0 engine loaded: ",
        "n2/decode-0 registered: engine loading",
        "n2/decode-0 engine loaded: ",
    ]
    assert [(state.node, state.unit, state.rung) for state in states] == [
        ("n1", "etcd", Rung.DOWN),  # services are proven before, and not watched here
        ("n1", "decode-0", Rung.LOADED),
        ("n2", "decode-0", Rung.LOADED),
    ]
    assert nodes.requests["n1"] == {
        "units": ["/u/decode-0"],
        "until": "engine_ready",
        "expects": {"by": ["frontend", "processor", "router"], "counts": {"decode": 2}},
        "stuck_s": 60.0,
        "deadline_s": 3600.0,
        "ends": {},
    }
    assert all(timeout_s > 3600 for timeout_s in nodes.timeouts)


def test_ends_that_were_known_before_are_told_to_their_node() -> None:
    nodes = Nodes(n1=ready, n2=ready)
    board = Board(SPECS, lambda states, one: None)
    climb(SPECS, board, nodes.watch, nodes.fan, {("n2", "decode-0"): 3})
    assert {node: request["ends"] for node, request in nodes.requests.items()} == {
        "n1": {},
        "n2": {"decode-0": 3},
    }


ENDS = {
    "failed": "n2/decode-0 failed: decode-0 ended with exit status 1",
    "stuck": "n2/decode-0 is stuck: decode-0 ended with exit status 1",
    "deadline": "n2/decode-0 took too long: decode-0 ended with exit status 1",
    "ended": "n2/decode-0 ended: decode-0 ended with exit status 1",
}


@pytest.mark.parametrize("reason", ENDS)
def test_bad_news(reason: str) -> None:
    why = {"decode-0": "decode-0 ended with exit status 1", "decode-1": "later"}
    tail = {"decode-0": [f"line {number}" for number in range(20)]}
    bad = end(reason, why=why, tail=tail)
    with pytest.raises(NotReady) as caught:
        climbed(Nodes(n1=ready, n2=lambda request, on_answer: bad))
    assert str(caught.value) == ENDS[reason]
    assert caught.value.detail == tuple(f"| line {number}" for number in range(8, 20))
    assert caught.value.next == "dynoctl logs c --role n2/decode-0"


def test_a_watch_that_ended_without_a_word() -> None:
    with pytest.raises(NotReady) as caught:
        climbed(Nodes(n1=lambda request, on_answer: {"reason": "ended"}, n2=ready))
    assert str(caught.value) == "n1/? ended: the watch ended without a reason"


def test_a_lost_node_is_its_own_error() -> None:
    def lost(request: dict[str, Any], on_answer: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        raise Unreachable("n2", "the connection broke")

    with pytest.raises(Unreachable, match="n2: the connection broke"):
        climbed(Nodes(n1=ready, n2=lost))


def test_bad_news_of_one_node_does_not_wait_for_another() -> None:
    """As `Fleet.as_they_end` does it: side by side; the slow one still talks when nobody listens any more."""
    told: list[str] = []
    failed, talked = threading.Event(), threading.Event()

    def slow(request: dict[str, Any], on_answer: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        assert failed.wait(20)
        on_answer(view(engine="loading"))
        talked.set()
        return end()

    watched = Nodes(n1=slow, n2=lambda request, on_answer: end("failed", why={"decode-0": "it broke"}))

    threads: list[threading.Thread] = []

    def fan(
        nodes: tuple[str, ...], do: Callable[[str], dict[str, Any]]
    ) -> Iterator[tuple[str, dict[str, Any] | DynoctlError]]:
        threads.append(threading.Thread(target=do, args=("n1",)))
        threads[0].start()
        yield "n2", do("n2")

    board = Board(SPECS, lambda states, one: told.append(one.node))
    with pytest.raises(NotReady, match="n2/decode-0 failed: it broke"):
        climb(SPECS, board, watched.watch, fan)
    failed.set()
    assert talked.wait(20)
    threads[0].join()
    assert told == ["n2"]


def test_a_view_is_the_same_value_as_a_look() -> None:
    seen = read_view(view(restarts=2, exit={"code": 1}))
    assert (seen.name, seen.digest, seen.phase, seen.alive, seen.supervised) == (
        "decode-0",
        "d",
        "running",
        True,
        True,
    )
    assert (seen.pid, seen.restarts, seen.exit) == (7, 2, {"code": 1})
    assert seen.roles == {"decode": RoleHealth(True, True, "ready", None)}
    assert seen.sees == {"decode": 2}
    assert seen.responding


@pytest.mark.parametrize(("responding", "is_responding"), [(True, True), (False, False), (None, False)])
def test_responding(responding: bool | None, is_responding: bool) -> None:
    assert read_view(view(responding=responding)).responding is is_responding


@pytest.mark.parametrize(
    ("phase", "seen_as"),
    [("none", "unknown"), ("unreadable", "unknown"), ("gone", "dead"), ("failed", "failed")],
)
def test_a_unit_that_does_not_run_has_the_phase_that_a_look_gives_it(phase: str, seen_as: str) -> None:
    seen = read_view({"unit": "decode-0", "phase": phase, "pid": None, "health": None, "listening": {}})
    assert (seen.alive, seen.phase, seen.roles, seen.beat_age_s) == (False, seen_as, {}, None)


def test_a_board_tells_changes_alone_and_only_of_its_own_units() -> None:
    told: list[RoleState] = []
    board = Board(SPECS, lambda states, one: told.append(one))
    board.tell("n1", view("stranger-0"))
    board.tell("n3", view())
    board.tell("n1", view())
    board.tell("n1", view())
    assert [(state.node, state.rung) for state in told] == [("n1", Rung.LOADED)]
    board.tell("n1", view(listening={"7000": False}))
    assert told[-1].rung is Rung.ALIVE

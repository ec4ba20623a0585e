"""The ladder: how far each role is, and what is said of what holds it there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dynoctl.errors import Unreachable
from dynoctl.plan.observed import Observed, RoleHealth, UnitSeen
from dynoctl.plan.results import RoleState, Rung, cluster_states, expected_counts, role_states
from dynoctl.plan.steps import UnitSpec
from tests.dynoctl.plan.world import TWO, planned, topology, up

DECODE = UnitSpec("decode-0", "n1", ("decode",), "", {"listens": [7300]})
ROUTER = UnitSpec("router-0", "n1", ("router",), "", {"listens": [7200]})
ETCD = UnitSpec("etcd", "n1", ("etcd",), "", {"listens": [2379]})
GOOD = RoleHealth(port=True, registered=True, engine="ready")


def seen(
    phase: str = "running", *, alive: bool = True, said: RoleHealth | None = GOOD, **more: Any
) -> UnitSeen:
    roles = {"decode": said, "router": said} if said else {}
    values = {"beat_age_s": 1.0, "pid": 7 if alive else None, "sees": {"decode": 2}, **more}
    return UnitSeen("decode-0", "d", phase, alive, roles=roles, **values)


def state(found: UnitSeen | None, *, listening: bool = True, spec: UnitSpec = DECODE) -> RoleState:
    (only,) = role_states(spec, found, listening, {"decode": 2})
    return only


def engine(word: str, problem: str | None = None) -> RoleHealth:
    return RoleHealth(True, True, word, problem)


DOWN: dict[str, tuple[UnitSeen | None, str]] = {
    "never": (None, "not started"),
    "failed": (
        seen("failed", alive=False, restarts=5, exit={"code": 1}),
        "gave up after 5 restarts, last end: exit 1",
    ),
    "failed once": (
        seen("failed", alive=False, restarts=1, exit={"signal": 11}),
        "gave up after 1 restart, last end: signal 11",
    ),
    "waiting": (
        seen("waiting", alive=False, exit={"unknown": True}),
        "waits to be restarted, last end: unknown",
    ),
    "stopped": (seen("stopped", alive=False), "stopped"),
    "half": (UnitSeen("decode-0", None, "unknown", False), "half-started"),
    "dead": (seen("dead", alive=False, exit={"signal": 9}), "not running, last end: signal 9"),
    "gone": (seen("dead", alive=False), "not running"),
}


@pytest.mark.parametrize("case", DOWN)
def test_down_and_why(case: str) -> None:
    found, note = DOWN[case]
    got = state(found)
    assert (got.rung, got.note, got.climbed) == (Rung.DOWN, note, False)
    assert got.failed is (found is not None and found.phase == "failed")


UP: dict[str, tuple[RoleState, Rung, str]] = {
    "no health yet": (state(seen(said=None, beat_age_s=None)), Rung.ALIVE, ""),
    "silent": (state(seen(beat_age_s=31.4)), Rung.ALIVE, "not responding for 31 s"),
    "no port by itself": (state(seen(said=RoleHealth(problem="binds"))), Rung.ALIVE, "binds"),
    "no port by the kernel": (state(seen(), listening=False), Rung.ALIVE, ""),
    "not registered": (
        state(seen(said=RoleHealth(port=True, problem="etcd is away"))),
        Rung.LISTENING,
        "etcd is away",
    ),
    "loads": (state(seen(said=engine("loading"))), Rung.REGISTERED, "engine loading"),
    "loads and says more": (state(seen(said=engine("loading", "3 of 4"))), Rung.REGISTERED, "3 of 4"),
    "ready": (state(seen()), Rung.LOADED, ""),
    "no engine": (state(seen(said=engine("none"))), Rung.LOADED, ""),
    "sees too few": (state(seen(sees={"decode": 1}), spec=ROUTER), Rung.LISTENING, "sees decode 1 of 2"),
    "sees too many": (state(seen(sees={"decode": 3}), spec=ROUTER), Rung.LISTENING, "sees decode 3 of 2"),
    "sees none": (state(seen(sees={}), spec=ROUTER), Rung.LISTENING, "sees decode 0 of 2"),
    "sees all": (state(seen(said=engine("none")), spec=ROUTER), Rung.LOADED, ""),
    "a worker need not see": (state(seen(sees={})), Rung.LOADED, ""),
}


@pytest.mark.parametrize("case", UP)
def test_up_and_how_far(case: str) -> None:
    got, rung, note = UP[case]
    assert (got.rung, got.note) == (rung, note)
    assert got.climbed is (rung is Rung.LOADED)
    assert not got.failed


def test_a_failed_engine_is_failed() -> None:
    got = state(seen(said=engine("failed", "no such model")))
    assert (got.rung, got.note, got.failed) == (Rung.REGISTERED, "no such model", True)


def test_a_service_has_two_rungs() -> None:
    assert state(seen(said=None), spec=ETCD).climbed
    short = state(seen(said=None), spec=ETCD, listening=False)
    assert (short.rung, short.climbed, short.top) == (Rung.ALIVE, False, Rung.LISTENING)


def test_what_a_complete_cluster_has() -> None:
    assert expected_counts(planned(topology(TWO)).units) == {
        "frontend": 1,
        "processor": 1,
        "router": 1,
        "decode": 2,
    }


def test_rungs_have_words() -> None:
    assert [rung.word for rung in Rung] == [
        "down",
        "process alive",
        "port answers",
        "registered",
        "engine loaded",
        "serving",
    ]


def test_a_cluster_role_by_role_and_a_node_that_did_not_answer() -> None:
    wanted = topology(TWO)
    observed = up(wanted)
    nodes = {"n1": observed.nodes["n1"]}
    lost = Observed(nodes, {"n2": Unreachable("n2", "no answer")})
    states = cluster_states(planned(wanted, observed).units, lost)
    assert [(found.node, found.unit, found.role, found.rung, found.note) for found in states] == [
        ("n1", "etcd", "etcd", Rung.LISTENING, ""),
        ("n1", "nats", "nats", Rung.LISTENING, ""),
        ("n1", "frontend-0", "frontend", Rung.ALIVE, ""),
        ("n1", "frontend-0", "processor", Rung.ALIVE, ""),
        ("n1", "frontend-0", "router", Rung.ALIVE, ""),
        ("n1", "decode-0", "decode", Rung.ALIVE, ""),
        ("n2", "decode-0", "decode", Rung.DOWN, "its node did not answer"),
    ]


def test_a_unit_listens_where_all_its_ports_are_taken() -> None:
    wanted = topology(TWO)
    observed = up(wanted)
    node = observed.nodes["n1"]
    half = Observed({**observed.nodes, "n1": replace(node, listening=node.listening - {2380})})
    states = cluster_states(planned(wanted, observed).units, half)
    assert states[0].rung is Rung.ALIVE

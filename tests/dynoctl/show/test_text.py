"""Plans, states and outcomes as people read them, to the letter."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from dynoctl.errors import Unreachable
from dynoctl.plan.observed import Holder, Observed
from dynoctl.plan.results import Proof, RoleState, Rung
from dynoctl.plan.teardown import teardown
from dynoctl.show import text
from tests.dynoctl.plan.world import KIT, TWO, empty, planned, topology, up


def state(role: str = "decode", rung: Rung = Rung.LOADED, **more: object) -> RoleState:
    values: dict[str, object] = {"pid": 7, "up_s": 75.0}
    return RoleState("n1", f"{role}-0", role, rung, **{**values, **more})  # type: ignore[arg-type]


def test_a_plan_with_its_reasons() -> None:
    plan = planned(topology(TWO, "roles.decode.replicas=2", "engine.block_size=32"), up(topology(TWO)))
    assert list(text.plan_lines(plan)) == [
        "1. prepare the nodes",
        "   n1           record the topology, generation 2  (the topology changed)",
        "   n2           record the topology, generation 2  (the topology changed)",
        "2. stop units",
        "   n1           stop frontend-0  (its settings changed)",
        "                stop decode-0    (its settings changed)",
        "   n2           stop decode-0  (its settings changed)",
        "3. start every role at once",
        "   n1           start frontend-0 on ports 8000, 7000  (its settings changed)",
        "                start decode-0 on ports 7300, 7800    (its settings changed)",
        "                start decode-1 on ports 7301, 7801    (does not run yet)",
        "   n2           start decode-0 on ports 7300, 7800  (its settings changed)",
        "                start decode-1 on ports 7301, 7801  (does not run yet)",
        "environment",
        "   every role  ETCD_ENDPOINTS=http://10.0.0.1:2379 NATS_SERVER=nats://10.0.0.1:4222",
        "",
        "c: 5 to start, 3 to stop, 2 unchanged.",
    ]


def test_a_plan_without_changes() -> None:
    assert list(text.plan_lines(planned(topology(TWO), up(topology(TWO))))) == ["c: no changes"]
    assert list(text.plan_lines(teardown("c", Observed({}), KIT.node_program))) == ["c: no changes"]


def test_a_teardown() -> None:
    lines = list(text.plan_lines(teardown("c", up(topology(TWO)), KIT.node_program)))
    assert [line for line in lines if line[:1].isdigit()] == [
        "1. drain and stop the frontends",
        "2. stop units",
        "3. stop etcd and NATS",
        "4. prove that nothing is left, and remove the folders",
    ]
    assert lines[-1] == "c: 5 to stop."


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (192, "3m12s"),
        (3600, "1h00m"),
        (18180, "5h03m"),
        (86400, "1d00h"),
        (187200, "2d04h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words


LADDERS = {
    "down": (state(rung=Rung.DOWN), False, "○○○○○", "red", "down"),
    "alive": (state(rung=Rung.ALIVE), False, "●○○○○", "yellow", "process alive"),
    "loaded": (state(), False, "●●●●○", "yellow", "engine loaded"),
    "serving": (state(), True, "●●●●●", "green", "serving"),
    "not climbed while others serve": (
        state(rung=Rung.REGISTERED),
        True,
        "●●●○○",
        "yellow",
        "registered",
    ),
    "failed": (state(rung=Rung.REGISTERED, failed=True), True, "●●●○○", "red", "failed"),
    "service": (state("etcd", Rung.LISTENING), False, "●●", "green", "up"),
    "service short": (state("etcd", Rung.ALIVE), True, "●○", "yellow", "process alive"),
}


@pytest.mark.parametrize("case", LADDERS)
def test_the_ladder_as_dots_and_as_a_word(case: str) -> None:
    found, served, dots, colour, word = LADDERS[case]
    cell = text.ladder_cell(found, served=served)
    assert (cell.plain, cell.style) == (dots, colour)
    assert text.state_word(found, served=served) == word


def test_a_table_row_by_row() -> None:
    states = [
        state("etcd", Rung.LISTENING),
        state(restarts=2, note="3 of 4"),
        replace(state(), node="n2", rung=Rung.DOWN, pid=None, note="not started"),
    ]
    out = io.StringIO()
    Console(file=out, width=200).print(text.states_table(states, served=True))
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        "NODE ROLE   UNIT     LADDER STATE   UP    RESTARTS NOTE",
        "n1   etcd   etcd-0   ●●     up      1m15s 0",
        "     decode decode-0 ●●●●●  serving 1m15s 2        3 of 4",
        "n2   decode decode-0 ○○○○○  down    -     0        not started",
    ]


def test_one_line_for_logs() -> None:
    assert text.state_line(state()) == "n1/decode-0 decode 4/4 engine loaded"
    short = state("etcd", Rung.ALIVE, note="it hangs")
    assert text.state_line(short) == "n1/etcd-0 etcd 1/2 process alive: it hangs"


def head(states: list[RoleState], *, serving: bool, observed: Observed | None = None) -> list[str]:
    seen = observed or Observed({"n1": empty("n1", manifest={"generation": 3})})
    return list(text.status_head("c", seen, states, serving=serving))


def test_the_head_of_a_status() -> None:
    low = state(rung=Rung.ALIVE)
    assert head([state()], serving=True) == ["c serves (generation 3)", ""]
    assert head([state(), low], serving=True)[0] == "c serves, with 1 of 2 roles not up (generation 3)"
    assert head([low, low], serving=False)[0] == "c does NOT serve; 2 of 2 roles are not up (generation 3)"
    assert head([state()], serving=False)[0] == (
        "c does NOT serve, though all 1 roles are up: no frontend says that it could (generation 3)"
    )


def test_the_head_of_a_status_without_a_cluster() -> None:
    two = Observed({"n1": empty("n1"), "n2": empty("n2")})
    assert head([], serving=False) == ["c does not run on 1 node that answered."]
    assert head([], serving=False, observed=two) == ["c does not run on 2 nodes that answered."]
    lost = Observed({}, {"n1": Unreachable("n1", "no answer")})
    assert head([], serving=False, observed=lost) == [
        "c: no node could be asked, so whether it runs is not known."
    ]


def test_who_is_at_work_is_said() -> None:
    lock = Holder("ada", "laptop", "dynoctl up", "2026-01-01T00:00:00Z")
    assert head([state()], serving=True, observed=Observed({"n1": empty("n1", lock=lock)}))[1] == (
        "at work on it since 2026-01-01T00:00:00Z: ada on laptop, dynoctl up (lock on n1)"
    )


def test_small_things() -> None:
    assert text.count(1, "node") == "1 node"
    assert text.count(0, "node") == "0 nodes"
    assert text.log_line("n1/etcd", "hello", 12) == "n1/etcd      | hello"
    near, far = (
        Proof("n1", "n1/decode-0", None, 12.4, "x"),
        Proof("n1", "n2/decode-0", "n3/prefill-0", 12.6, "x"),
    )
    assert text.proof_line(near) == "a token came back from n1/decode-0 in 12 ms"
    assert text.proof_line(far) == "a token came back from n2/decode-0, prefilled by n3/prefill-0 in 13 ms"


def test_what_to_do_next() -> None:
    assert list(text.next_lines("http://10.0.0.1:8000", "c", None)) == [
        "",
        "address  http://10.0.0.1:8000",
        "try      curl -s http://10.0.0.1:8000/generate -H 'Content-Type: application/json' \\",
        """           -d '{"prompt": "Tell me a joke", "request_id": "1"}'""",
        "next     dynoctl status c  |  dynoctl logs c --follow  |  dynoctl down c",
    ]
    assert list(text.next_lines("http://10.0.0.1:8000", "c", "it's"))[2:4] == [
        "try      curl -sN http://10.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\",
        """           -d '{"model": "it'"'"'s", "stream": true, """
        """"messages": [{"role": "user", "content": "Tell me a joke"}]}'""",
    ]

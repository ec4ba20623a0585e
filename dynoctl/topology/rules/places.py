"""Rules on where roles stand: on nodes that exist, each in one way.

In: a topology. Out: findings.
"""

from __future__ import annotations

from collections.abc import Iterator

from dynoctl.topology.document import Path
from dynoctl.topology.finding import Finding
from dynoctl.topology.hints import close_name, one_of
from dynoctl.topology.model import Topology
from dynoctl.topology.placement import only_node
from dynoctl.topology.roles import ROLES, Frontend, Role, Worker


def specs(topology: Topology) -> Iterator[tuple[Path, Role]]:
    """Every map of every role, with its path."""
    for role in ROLES:
        for index, spec in enumerate(topology.roles.of(role)):
            yield ("roles", role, index), spec


def workers(topology: Topology) -> Iterator[tuple[Path, Worker]]:
    """Every map of decode and prefill, with its path."""
    return ((path, spec) for path, spec in specs(topology) if isinstance(spec, Worker))


def _named(path: Path, spec: Role) -> Iterator[tuple[Path, str]]:
    """Every node that a role names, with the place of the name."""
    if spec.node is not None:
        yield (*path, "node"), spec.node
    for key in ("nodes", "span"):
        for index, node in enumerate(getattr(spec, key, ())):
            yield (*path, key, index), node


def units(topology: Topology) -> int:
    """How many units the roles ask for, Ray aside."""
    return sum(
        spec.replicas
        * max(1, sum(len(nodes) for nodes in spec.sites))
        * (spec.workers if isinstance(spec, Frontend) else 1)
        for _, spec in specs(topology)
    )


def known_nodes(topology: Topology) -> Iterator[Finding]:
    """Every node that is named is there."""
    named = [place for path, spec in specs(topology) for place in _named(path, spec)]
    for service in ("etcd", "nats"):
        node = getattr(topology.services, service).node
        if node is not None:
            named.append((("services", service, "node"), node))
    models = [
        (("model",), topology.model),
        *(((*path, "model"), one.model) for path, one in workers(topology)),
    ]
    for place, model in models:
        if model is not None and model.stage_from is not None:
            named.append(((*place, "stage_from"), model.stage_from))
    names = tuple(topology.machines)
    for path, node in named:
        if node not in topology.machines:
            message = f"no node is called '{node}'"
            yield Finding(path, message, close_name(node, names), rests_on=(("nodes",),))


def one_place(topology: Topology) -> Iterator[Finding]:
    """A role says in one way where it stands, and names no node twice."""
    for path, spec in specs(topology):
        ways = [key for key in ("node", "nodes", "span") if getattr(spec, key, None)]
        if len(ways) > 1:
            said = one_of([f"`{way}`" for way in ways])
            yield Finding(
                (*path, ways[1]), f"says where it stands in two ways; keep one of {said}", at_key=True
            )
        for key in ("nodes", "span"):
            names = getattr(spec, key, ())
            seen: set[str] = set()
            for index, name in enumerate(names):
                again = name in seen
                seen.add(name)
                if again:
                    hint = f"for more of them on {name}, write `replicas`" if key == "nodes" else None
                    yield Finding((*path, key, index), f"'{name}' stands in the list twice", hint)
        if len(getattr(spec, "span", ())) == 1:
            yield Finding((*path, "span"), "a span has two nodes or more", "use `node` for one", at_key=True)


def some_place(topology: Topology) -> Iterator[Finding]:
    """With more than one node, nothing is put anywhere by guessing."""
    if only_node(topology) is None:
        for path, spec in specs(topology):
            if not spec.sites:
                nodes = one_of(tuple(topology.machines))
                yield Finding(
                    path, "names no node, and there is more than one", f"add `node: {nodes}`", at_key=True
                )

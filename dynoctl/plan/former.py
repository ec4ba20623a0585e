"""Machines that an earlier topology of a cluster had and the present one has not: what runs there is not forgotten.

In: two topologies, and what was seen. Out: those machines under names of their own, without those that turn out to be
machines of the present topology under another address.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from dynoctl.plan.observed import NodeSeen, Observed
from dynoctl.topology.model import Topology
from dynoctl.topology.placement import Machine


@dataclass(frozen=True, slots=True)
class Former:
    """`machine.name` is free in the present topology; `known_as` is the node's name on its own disk."""

    machine: Machine
    known_as: str


def former(now: Topology, before: Topology) -> tuple[Former, ...]:
    """The machines of `before` that `now` does not have, by name or at the place where they were."""
    found = []
    for name, was in before.machines.items():
        present = now.machines.get(name)
        if present is None:
            found.append(Former(was, name))
        elif _place(present) != _place(was):
            found.append(Former(dataclasses.replace(was, name=f"{name}@{was.host}"), name))
    return tuple(found)


def _place(machine: Machine) -> tuple[object, ...]:
    return (machine.host, machine.ssh.user, machine.ssh.port, machine.state_dir)


def without_doubles(observed: Observed) -> Observed:
    """The same without former machines that are a present one, reached by another address or user name."""
    doubles = [
        name
        for name, seen in observed.nodes.items()
        if seen.known_as not in (None, name)
        and (present := observed.nodes.get(str(seen.known_as))) is not None
        and _disk(present) == _disk(seen)
    ]
    nodes = {name: seen for name, seen in observed.nodes.items() if name not in doubles}
    return dataclasses.replace(observed, nodes=nodes)


def _disk(seen: NodeSeen) -> tuple[object, ...]:
    return (seen.boot_id, seen.hostname, seen.root, seen.manifest)

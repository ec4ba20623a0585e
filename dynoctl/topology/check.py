"""All rules that need the whole of a topology, in one list.

In: a `Topology`, read but not checked. Out: everything that the rules find, in no particular order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from dynoctl.topology.finding import Finding
from dynoctl.topology.model import Topology
from dynoctl.topology.rules import arguments, gpus, machines, places, ports, services, work

MAX_UNITS = 4096

Rule = Callable[[Topology], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    *(machines.same_machine, machines.same_address, machines.reachable, machines.ipv4, machines.ssh_on_local),
    *(places.known_nodes, places.one_place, places.some_place),
    *(services.one_source, services.some_source, services.schemes, services.reachable),
    *(work.ends_of_the_ring, work.prefill_and_disagg, work.same_engine, work.same_model, work.arguments),
    *(work.both_roles, work.staged_folders, work.device, work.environment, work.planner),
    *(arguments.known, arguments.fitting),
    *(ports.taken_once, ports.one_stream_port),
    *(
        gpus.shared_evenly,
        gpus.whole_replicas,
        gpus.within_the_node,
        gpus.named,
        gpus.chosen_by_name,
        gpus.one_build,
    ),
)


def findings(topology: Topology) -> Iterator[Finding]:
    """What all rules find."""
    asked = places.units(topology)
    if asked > MAX_UNITS:
        # The other rules look at every unit, so this one comes alone.
        return iter(
            [Finding(("roles",), f"{asked:,} units are too many (at most {MAX_UNITS:,})", at_key=True)]
        )
    return chain.from_iterable(rule(topology) for rule in RULES)

"""Where the runtime can be asked something about a running cluster: a node that has a unit of it.

In: an observation. Out: a `Beside`, from the first node that has one.
"""

from __future__ import annotations

from dataclasses import dataclass

from dynoctl.plan.manifest import roles_of
from dynoctl.plan.observed import Observed
from dynoctl.plan.results import SERVICES


@dataclass(frozen=True, slots=True)
class Beside:
    """One node's interpreter, the runtime's source there, and the settings of a process of this cluster."""

    node: str
    python: str
    code: str
    settings: str


def beside(cluster: str, observed: Observed) -> Beside | None:
    """None where no node that answered runs anything but services."""
    for node, seen in observed.nodes.items():
        runtime = (seen.manifest or {}).get("runtime")
        others = (*SERVICES, "ray")  # they have no settings of a process
        units = [
            name for name, unit in seen.units.items() if unit.alive and roles_of(seen, name)[0] not in others
        ]
        if runtime and units:
            settings = f"{seen.base(cluster)}/units/{units[0]}/settings.json"
            return Beside(node, runtime["python"], runtime["code"], settings)
    return None

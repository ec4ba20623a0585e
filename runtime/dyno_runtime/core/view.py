"""What one process knows of the live instances of its cluster. In: `seen` and `gone`. Out: a new `View`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from dyno_runtime.wire.messages import Instance, LeaseId, Role

_Key = tuple[Role, LeaseId]


@dataclass(frozen=True)
class View:
    """Live instances by role and lease."""

    instances: dict[_Key, Instance] = field(default_factory=dict)

    def of(self, role: Role) -> list[Instance]:
        """The instances of a role, ready or not, in an order that all processes share."""
        found = [instance for key, instance in self.instances.items() if key[0] == role]
        return sorted(found, key=_order)

    def ready(self, role: Role, excluded: Iterable[LeaseId] = ()) -> list[Instance]:
        """The instances of a role that may be sent requests, in the shared order."""
        return [one for one in self.of(role) if one.state == "ready" and one.lease not in excluded]

    def serving(self, role: Role, model: str) -> list[Instance]:
        """Those of `ready` that serve this model."""
        return [one for one in self.ready(role) if one.model == model]

    def find(self, role: Role, target: str) -> Instance | None:
        """An instance by its lease or by its place, `node2/decode-0`."""
        return next((one for one in self.of(role) if target in (one.lease, one.place)), None)

    def counts(self) -> dict[str, int]:
        """How many instances of each role are registered."""
        counts: dict[str, int] = {}
        for role, _ in self.instances:
            counts[role] = counts.get(role, 0) + 1
        return dict(sorted(counts.items()))


def ready_counts(view: View) -> dict[str, int]:
    """How many instances of each role may be sent requests."""
    return {role: len(view.ready(cast(Role, role))) for role in view.counts()}


def seen(view: View, instance: Instance) -> View:
    """The view once `instance` is registered, or says something new of itself."""
    return View({**view.instances, (instance.role, instance.lease): instance})


def gone(view: View, role: Role, lease: LeaseId) -> View:
    """The view once that lease has ended."""
    return View({key: one for key, one in view.instances.items() if key != (role, lease)})


def _order(instance: Instance) -> tuple[str, str, str]:
    return instance.node, instance.unit, instance.lease

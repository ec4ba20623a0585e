"""A topology: everything that the user wrote, with every default in its place.

In: plain values (`dynoctl.topology.load` reads them from YAML). Out: `Topology`, frozen, with views that have one
shape whatever the file's shorthand was: `machines`, `placements`, `processes`, `etcd`, `nats`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pydantic import Field

from dynoctl.topology.engine import Disagg, Engine, Model
from dynoctl.topology.machines import Install, Node, Ssh
from dynoctl.topology.part import Part
from dynoctl.topology.placement import (
    Machine,
    Placement,
    Process,
    Service,
    machines,
    placements,
    processes,
    service,
)
from dynoctl.topology.roles import Roles
from dynoctl.topology.scalars import Label, Path
from dynoctl.topology.secret import Env
from dynoctl.topology.services import Services


class Topology(Part):
    """One cluster."""

    name: Label = Field(
        description="The cluster's name; what is on the nodes is kept under it.", examples=["cluster"]
    )
    model: Model = Field(description="The model that is served.", examples=[{"id": "model"}])
    engine: Engine = Field(
        description="What makes the tokens; a role may override any key.", examples=[{"kind": "hello"}]
    )
    ssh: Ssh = Field(
        default_factory=Ssh.model_construct, description="How nodes are reached; a node may override it."
    )
    nodes: dict[Label, Node] = Field(
        default_factory=dict, description="The machines, by name; where absent, this machine as 'local'."
    )
    services: Services = Field(default_factory=Services.model_construct, description="etcd and NATS.")
    roles: Roles = Field(description="Who does the work, and where.", examples=[{}])
    disagg: Disagg = Field(default_factory=Disagg.model_construct, description="Where prefill runs.")
    env: Env = Field(default_factory=dict, description="Environment of every process of the cluster.")
    python: Path | None = Field(
        default=None, description="An existing interpreter to use on every node; nothing is installed then."
    )
    install: Install = Field(
        default_factory=Install.model_construct, description="How the Python environment of a node is built."
    )
    state_dir: Path = Field(
        default="~/.dynoctl", description="The folder on each node that holds everything of dynoctl."
    )

    @cached_property
    def machines(self) -> dict[str, Machine]:
        """The nodes by name, in file order, with every default filled in; at least one."""
        return machines(self)

    @cached_property
    def placements(self) -> tuple[Placement, ...]:
        """Every unit of every role, in the order frontend, processor, router, decode, prefill."""
        return placements(self)

    @cached_property
    def processes(self) -> tuple[Process, ...]:
        """What runs as one process each: placements, fused where the file lets them."""
        return processes(self)

    @cached_property
    def etcd(self) -> Service:
        """Where etcd is, or is to be started."""
        return service(self, self.services.etcd)

    @cached_property
    def nats(self) -> Service:
        """Where NATS is, or is to be started."""
        return service(self, self.services.nats)

    def dump(self, *, reveal: bool = False) -> dict[str, Any]:
        """The file as JSON values, without what is default. Secrets are `***` unless `reveal`.

        `Topology.model_validate` of a revealed dump gives an equal topology.
        """
        return self.model_dump(mode="json", exclude_defaults=True, context={"reveal": reveal})

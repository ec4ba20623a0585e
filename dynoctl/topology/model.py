"""A topology: everything that the user wrote, with every default in its place.

In: nothing (`dynoctl.topology.load` reads it from YAML). Out: `Topology`, frozen, with views that have one shape
whatever the file's shorthand was: `machines`, `placements`, `processes`, `etcd`, `nats`.
"""

from functools import cached_property
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dynoctl.topology import placement
from dynoctl.topology.engine import Disagg, Engine, Model
from dynoctl.topology.machines import Install, Node, Ssh
from dynoctl.topology.part import Part
from dynoctl.topology.placement import Machine, Placement, Process, Service
from dynoctl.topology.roles import Roles
from dynoctl.topology.scalars import Label, Path
from dynoctl.topology.secret import Env, Secret, redacted
from dynoctl.topology.services import Services


class Topology(Part, frozen=True, dict=True):
    """One cluster."""

    name: Annotated[
        Label,
        Meta(description="The cluster's name; what is on the nodes is kept under it.", examples=["cluster"]),
    ]
    model: Annotated[Model, Meta(description="The model that is served.", examples=[{"id": "hello"}])]
    engine: Annotated[
        Engine,
        Meta(description="What makes the tokens; a role may override any key.", examples=[{"kind": "hello"}]),
    ]
    roles: Annotated[
        Roles,
        Meta(description="Who does the work, and where.", examples=[{"frontend": [{}], "decode": [{}]}]),
    ]
    ssh: Annotated[Ssh, Meta(description="How nodes are reached; a node may override it.")] = Ssh()
    nodes: Annotated[
        dict[Label, Node], Meta(description="The machines, by name; where absent, this machine, as `local`.")
    ] = {}  # noqa: RUF012 - copied for each instance
    services: Annotated[Services, Meta(description="etcd and NATS.")] = Services()
    disagg: Annotated[Disagg, Meta(description="Where prefill runs.")] = Disagg()
    env: Annotated[Env, Meta(description="Environment of every process of the cluster.")] = Env()
    python: Annotated[
        Path | None,
        Meta(
            description="An existing environment to use on every node, by its interpreter or its folder (a virtual "
            "environment, a conda prefix); nothing is installed then."
        ),
    ] = None
    install: Annotated[Install, Meta(description="How the Python environment of a node is built.")] = (
        Install()
    )
    state_dir: Annotated[
        Path, Meta(description="The folder on each node that holds everything of dynoctl.")
    ] = "~/.dynoctl"

    @cached_property
    def machines(self) -> dict[str, Machine]:
        """The nodes by name, in file order, with every default filled in; at least one."""
        return placement.machines(self)

    @cached_property
    def placements(self) -> tuple[Placement, ...]:
        """Every unit of every role, in the order frontend, processor, router, decode, prefill."""
        return placement.placements(self)

    @cached_property
    def processes(self) -> tuple[Process, ...]:
        """What runs as one process each: placements, fused where the file lets them."""
        return placement.processes(self)

    @cached_property
    def etcd(self) -> Service:
        """Where etcd is, or is to be started."""
        return placement.etcd(self)

    @cached_property
    def nats(self) -> Service:
        """Where NATS is, or is to be started."""
        return placement.nats(self)

    def dump(self, *, reveal: bool = False) -> dict[str, Any]:
        """The file as JSON values, without what is default. Secrets are `***` unless `reveal`.

        `dynoctl.topology.load.parse` reads the JSON of a revealed dump back to an equal topology.
        """

        def plain(value: object) -> object:
            if isinstance(value, Secret):
                return value.reveal() if reveal else repr(value)
            if isinstance(value, Env):
                return {name: plain(item) for name, item in value.items()}
            return value

        values: Any = msgspec.to_builtins(self, enc_hook=plain)
        shown: dict[str, Any] = values if reveal else redacted(values)
        return shown

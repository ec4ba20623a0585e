"""What the plan needs to know of one node: where its folders are, what peers dial, which programs it has.

In: a topology's machine, what was observed of the node (or nothing, offline), the artifacts at hand. Out: a `Site`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dynoctl.plan.digest import digest_of
from dynoctl.plan.observed import NodeSeen
from dynoctl.plan.ports import PortBook
from dynoctl.plan.steps import Artifact
from dynoctl.topology.placement import Machine


@dataclass(frozen=True, slots=True)
class Kit:
    """The artifacts at hand, and what the runtime's environment must hold."""

    node_program: Artifact
    runtime: Artifact
    requirements: tuple[str, ...]
    nats: Artifact | None = None
    etcd: Artifact | None = None
    wheels: Artifact | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """One node. `root` is absolute, or begins with `~/` where the node was not asked; `login` is how a person gets
    there: `ssh me@host`."""

    node: str
    cluster: str
    address: str
    is_local: bool
    root: str
    ports: PortBook
    kit: Kit
    python_given: str | None
    python_is_own: bool = False
    index_url: str | None = None
    seen: NodeSeen | None = None
    login: str = ""

    @property
    def base(self) -> str:
        """This cluster's folder of this node."""
        return f"{self.root}/clusters/{self.cluster}/{self.node}"

    @property
    def node_program(self) -> str:
        """The node program's path."""
        return f"{self.root}/{self.kit.node_program.place}"

    @property
    def code(self) -> str:
        """What goes to PYTHONPATH for the runtime."""
        return f"{self.root}/{self.kit.runtime.place.removesuffix('/.complete')}"

    @property
    def environment(self) -> str:
        """The place of the environment's `.complete`. Its name does not depend on where the wheels came from."""
        made_of = {"requirements": self.kit.requirements, "python": self.python_given}
        return f"envs/{digest_of(made_of)}/.complete"

    @property
    def python(self) -> str:
        """The interpreter that runs the runtime."""
        return self.python_given or f"{self.root}/{self.environment.removesuffix('/.complete')}/bin/python"

    def has(self, place: str) -> bool:
        """Whether an artifact is whole on the node."""
        return self.seen is not None and place in self.seen.have

    def unit_folder(self, unit: str) -> str:
        """Where a unit keeps its files."""
        return f"{self.base}/units/{unit}"


def site(
    cluster: str,
    machine: Machine,
    address: str,
    kit: Kit,
    seen: NodeSeen | None,
    *,
    own_python: str,
    index_url: str | None,
    login: str = "",
) -> Site:
    """A node as the plan needs it. `own_python` runs this program: what a local node uses unless told otherwise."""
    recorded: Mapping[str, int] = (seen.manifest or {}).get("ports", {}) if seen else {}
    given = machine.python or (own_python if machine.is_local else None)
    return Site(
        node=machine.name,
        cluster=cluster,
        address=address,
        is_local=machine.is_local,
        root=seen.root if seen else machine.state_dir,
        ports=PortBook(machine.name, recorded, seen.listening - seen.own_ports if seen else frozenset()),
        kit=kit,
        python_given=seen.absolute(given) if seen and given else given,
        python_is_own=machine.is_local and not machine.python,
        index_url=index_url,
        seen=seen,
        login=login,
    )

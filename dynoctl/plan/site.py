"""What the plan needs to know of one node: where its folders are, what peers dial, which programs it has.

In: a topology's machine, what was observed of the node (or nothing, offline), the artifacts at hand. Out: a `Site`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dynoctl.plan.digest import digest_of
from dynoctl.plan.gpus import GpuBook
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
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by what units may need besides


@dataclass(frozen=True, slots=True)
class Network:
    """What peers reach a node by: the interface of its address, None where that is not known, and RDMA ports."""

    interface: str | None = None
    rdma: tuple[str, ...] = ()


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
    extra_index_url: str | None = None
    extras: tuple[str, ...] = ()
    seen: NodeSeen | None = None
    login: str = ""
    gpus: GpuBook = field(default_factory=GpuBook)
    gpus_declared: int | None = None
    network: Network = Network()

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
    def requirements(self) -> tuple[str, ...]:
        """What the environment must hold: what every unit needs, and what units of this node need besides."""
        return (*self.kit.requirements, *(line for name in self.extras for line in self.kit.extras[name]))

    @property
    def environment(self) -> str:
        """The place of the environment's `.complete`. Its name does not depend on where the wheels came from."""
        made_of = {"requirements": self.requirements, "python": self.python_given}
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
    own_python: str | None,
    index_url: str | None,
    extra_index_url: str | None = None,
    extras: tuple[str, ...] = (),
    login: str = "",
) -> Site:
    """A node as the plan needs it. `own_python` runs this program: what a local node uses unless told otherwise; None
    where it lacks what the node's units need."""
    recorded: Mapping[str, int] = (seen.manifest or {}).get("ports", {}) if seen else {}
    given = interpreter(machine.python) if machine.python else own_python if machine.is_local else None
    return Site(
        node=machine.name,
        cluster=cluster,
        address=address,
        is_local=machine.is_local,
        root=seen.root if seen else machine.state_dir,
        ports=PortBook(machine.name, recorded, seen.listening - seen.own_ports if seen else frozenset()),
        kit=kit,
        python_given=seen.absolute(given) if seen and given else given,
        python_is_own=machine.is_local and not machine.python and own_python is not None,
        index_url=index_url,
        extra_index_url=extra_index_url,
        extras=extras,
        seen=seen,
        login=login,
        gpus=_gpus(machine.gpus, seen),
        gpus_declared=machine.gpus,
        network=_network(address, seen),
    )


def interpreter(path: str) -> str:
    """The interpreter of an environment that is named by it, or by its folder."""
    return path if "python" in path.rpartition("/")[2] else f"{path.rstrip('/')}/bin/python"


def _gpus(declared: int | None, seen: NodeSeen | None) -> GpuBook:
    """The node's GPUs: those that were found, at most as many as the topology says; where none were found or nobody
    asked, the topology's word."""
    recorded: Mapping[str, list[int]] = (seen.manifest or {}).get("gpus", {}) if seen else {}
    found = seen.hardware.gpus if seen and seen.hardware else None
    if seen is None or found is None:
        asked = seen is not None and seen.hardware is not None
        believed = range(declared) if declared is not None else () if asked else None
        return GpuBook(believed, recorded)
    pool = tuple(gpu.index for gpu in found if declared is None or gpu.index < declared)
    return GpuBook(pool, recorded, frozenset(gpu.index for gpu in found if gpu.busy) - seen.own_gpus)


def _network(address: str, seen: NodeSeen | None) -> Network:
    """As seen now, else as an earlier plan recorded it."""
    if seen is not None and seen.hardware is not None:
        return Network(seen.hardware.interface(address), seen.hardware.rdma)
    recorded: Mapping[str, list[str] | str] = (seen.manifest or {}).get("network", {}) if seen else {}
    if recorded.get("address") != address:
        return Network()
    return Network(str(recorded["interface"]), tuple(recorded["rdma"]))

"""The views of a topology: its shorthand unrolled into machines, placements, processes and services.

In: a `Topology`, checked or not. Out: frozen values of one shape. A unit that names no node stands on the only
node there is; with more than one node it has no place and is left out (`dynoctl.topology.check` refuses that).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from dynoctl.topology.engine import Engine, Model
from dynoctl.topology.machines import LOCAL, Node, Ssh
from dynoctl.topology.roles import ROLES, Frontend, Role, RoleName, Worker
from dynoctl.topology.secret import Env, Url

if TYPE_CHECKING:
    from dynoctl.topology.model import Topology

FUSED: tuple[RoleName, ...] = ("frontend", "processor", "router", "planner")
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Machine:
    """A node with every default filled in. `address` is what peers dial."""

    name: str
    host: str
    address: str
    gpus: int | None
    ssh: Ssh
    env: Env
    python: str | None
    state_dir: str

    @property
    def is_local(self) -> bool:
        """Whether it is this machine, used without SSH."""
        return self.host == LOCAL


@dataclass(frozen=True)
class Placement:
    """One unit of one role.

    `nodes` has one node, or all of a span with the head first; `index` counts the units of this role from 0, so that
    it is unique on each of its nodes. `engine` and `model` are complete for workers and None for other roles.
    `path` is where the file says so: `("roles", "decode", 0)`.
    """

    role: RoleName
    index: int
    nodes: tuple[str, ...]
    spec: Role
    path: Path
    port: int | None = None
    stream_port: int | None = None
    engine: Engine | None = None
    model: Model | None = None
    env: Env = field(default_factory=Env)

    @property
    def node(self) -> str:
        """Its node; of a span, the head."""
        return self.nodes[0]

    @property
    def worker(self) -> Worker | None:
        """Its map, where the role runs an engine."""
        return self.spec if isinstance(self.spec, Worker) else None

    @property
    def gpus_per_node(self) -> int:
        """GPUs that it takes on each of its nodes: none unless the engine is vLLM, and not on the processor."""
        if self.worker is None or self.engine is None or not self.engine.on_gpus:
            return 0
        return self.share

    @property
    def share(self) -> int:
        """How many of the worker's ranks each of its nodes carries, whatever they compute on."""
        return -(-self.worker.gpus // len(self.nodes)) if self.worker is not None else 0

    @property
    def on_ray(self) -> bool:
        """Whether a Ray cluster of its own holds it together."""
        return self.worker is not None and self.worker.executor == "ray"


@dataclass(frozen=True)
class Process:
    """What runs as one process on one node: one placement, or several that are fused.

    Of a worker that is larger than a node, `rank` counts its nodes, the head first. With the executor mp each node
    has a process of it; with Ray the head alone, and every node a process with `ray` that makes it part of the
    worker's Ray cluster.
    """

    placements: tuple[Placement, ...]
    rank: int = 0
    ray: bool = False

    @property
    def name(self) -> str:
        """`<first role>-<index>`, `decode-0-rank1`, `ray-decode-0`; unique on its node."""
        first = self.placements[0]
        unit = f"{first.role}-{first.index}"
        if self.ray:
            return f"ray-{unit}"
        return f"{unit}-rank{self.rank}" if self.rank else unit

    @property
    def node(self) -> str:
        """Where it runs."""
        return self.placements[0].nodes[self.rank]

    @property
    def roles(self) -> tuple[RoleName, ...]:
        """What it does, in the order of the ring; of a rank, what its worker does."""
        roles = [placement.role for placement in self.placements]
        both = any(one.worker is not None and one.worker.role == "both" for one in self.placements)
        return (*roles, "prefill") if both else tuple(roles)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What people see it as: its roles, or `rank`, or `ray`: those serve nobody by themselves."""
        if self.ray:
            return ("ray",)
        return ("rank",) if self.rank else self.roles

    @property
    def is_head(self) -> bool:
        """Whether it is the one that the others of its worker look for."""
        return self.rank == 0


@dataclass(frozen=True)
class Service:
    """etcd or NATS. Either `node` says where to start it, or `urls` where it runs already. A port may be named."""

    node: str | None
    port: int | None
    binary: str | None = None
    urls: tuple[Url, ...] = ()


def machines(topology: Topology) -> dict[str, Machine]:
    """The nodes by name; without any in the file, this machine."""
    nodes = topology.nodes or {LOCAL: Node()}
    return {name: _machine(topology, name, node) for name, node in nodes.items()}


def _machine(topology: Topology, name: str, node: Node) -> Machine:
    address = node.address or ("127.0.0.1" if node.host == LOCAL else node.host)
    given = {key: value for key in ("user", "port", "key") if (value := getattr(node.ssh, key)) is not None}
    return Machine(
        name=name,
        host=node.host,
        address=address,
        gpus=node.gpus,
        ssh=msgspec.structs.replace(topology.ssh, **given),
        env=topology.env | node.env,
        python=node.python or topology.python,
        state_dir=node.state_dir or topology.state_dir,
    )


def etcd(topology: Topology) -> Service:
    """Where etcd is. Without a node and a URL it stands on the only node, or nowhere."""
    spec = topology.services.etcd
    node = None if spec.url else spec.node or only_node(topology)
    return Service(node, spec.port, spec.binary, spec.url)


def nats(topology: Topology) -> Service:
    """Where NATS is. Without a node and a URL it stands on the only node, or nowhere."""
    spec = topology.services.nats
    node = None if spec.url else spec.node or only_node(topology)
    return Service(node, spec.port, spec.binary, (spec.url,) if spec.url else ())


def only_node(topology: Topology) -> str | None:
    """The node that is meant where none is named: the only one there is, if so."""
    names = tuple(topology.machines)
    return names[0] if len(names) == 1 else None


def placements(topology: Topology) -> tuple[Placement, ...]:
    """Every unit, role by role; of one role in file order, replicas of a node side by side."""
    return tuple(chain.from_iterable(_placed(topology, role) for role in ROLES))


def _placed(topology: Topology, role: RoleName) -> Iterator[Placement]:
    seen: dict[str, int] = {}
    # One planner is enough for all of a frontend's processes; it is in the first of them.
    follows = role in FUSED and role != "planner" and topology.roles.fused
    sharing = _sharing(topology) if follows else {}
    for path, spec, nodes in _written(topology, role):
        workers = spec.workers if isinstance(spec, Frontend) else sharing.get(nodes[0], 1)
        for copy in range(spec.replicas * workers):
            index = max(seen.get(node, 0) for node in nodes)
            seen.update(dict.fromkeys(nodes, index + 1))
            yield _placement(topology, role, index, nodes, spec, path, copy)


def _sharing(topology: Topology) -> dict[str, int]:
    """How many processes share a frontend's port, by node: what is fused with the frontend is in each of them."""
    most: dict[str, int] = {}
    for _, spec, nodes in _written(topology, "frontend"):
        if isinstance(spec, Frontend):
            most[nodes[0]] = max(spec.workers, most.get(nodes[0], 1))
    return most


def _written(topology: Topology, role: RoleName) -> list[tuple[Path, Role, tuple[str, ...]]]:
    only = only_node(topology)
    default: tuple[tuple[str, ...], ...] = ((only,),) if only else ()
    return [
        (("roles", role, position), spec, nodes)
        for position, spec in enumerate(topology.roles.of(role))
        for nodes in spec.sites or default
    ]


def _placement(
    topology: Topology,
    role: RoleName,
    index: int,
    nodes: tuple[str, ...],
    spec: Role,
    path: Path,
    copy: int,
) -> Placement:
    return Placement(
        role=role,
        index=index,
        nodes=nodes,
        spec=spec,
        path=path,
        port=spec.port + copy // spec.workers if isinstance(spec, Frontend) else None,
        stream_port=None if spec.stream_port is None else spec.stream_port + copy,
        engine=topology.engine.overridden(spec.engine) if isinstance(spec, Worker) else None,
        model=(spec.model or topology.model) if isinstance(spec, Worker) else None,
        env=_env(topology, nodes[0]) | spec.env,
    )


def processes(topology: Topology) -> tuple[Process, ...]:
    """Placements, with the i-th of each fused role of a node in one process where `fused`.

    Workers that are larger than a node have one on each. Ray comes first, for workers stand on it.
    """
    groups: dict[tuple[str, int, str], list[Placement]] = {}
    for placement in topology.placements:
        fused = topology.roles.fused and placement.role in FUSED
        key = (placement.node, placement.index, "" if fused else placement.role)
        groups.setdefault(key, []).append(placement)
    whole = [Process(tuple(group)) for group in groups.values()]
    rays = [
        one
        for process in whole
        if process.placements[0].on_ray
        for one in _parts(topology, process, ray=True)
    ]
    spread = [one for process in whole for one in (process, *_others(topology, process))]
    return (*rays, *spread)


def _others(topology: Topology, process: Process) -> list[Process]:
    """The ranks of a worker beside its head; on Ray there are none, as Ray starts them."""
    return [] if process.placements[0].on_ray else _parts(topology, process)[1:]


def _parts(topology: Topology, process: Process, *, ray: bool = False) -> list[Process]:
    """One process for each node of a worker, with the environment of that node."""
    (placement, *_) = process.placements
    return [
        Process((replace(placement, env=_env(topology, node) | placement.spec.env),), rank, ray)
        for rank, node in enumerate(placement.nodes)
    ]


def _env(topology: Topology, node: str) -> Env:
    machine = topology.machines.get(node)
    return machine.env if machine else topology.env

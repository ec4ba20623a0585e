"""The vocabulary of a plan: what may happen to a node, each as a frozen value with a title and a reason.

`plan.build` makes these, `show` prints them, `plan.commands` turns them into what the node program is asked to do,
`remote.execute` carries them out. A step states what it ensures, so that carrying it out twice is harmless.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dynoctl.plan.gpus import spelled

PhaseName = Literal[
    "leave",
    "prepare",
    "offer",
    "stage",
    "withdraw",
    "drain",
    "stop",
    "stop-ray",
    "purge",
    "stop-services",
    "services",
    "ray",
    "ray-join",
    "roles",
    "remove",
]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that travels to nodes. `place` is where it is whole below the node's root, `size_bytes` what is sent.

    An archive is sent as one file and unpacked into the folder of `place`; `place` then ends in `/.complete`.
    """

    place: str
    size_bytes: int
    mode: int = 0o600
    archive: bool = False
    title: str = ""


@dataclass(frozen=True, slots=True)
class UnitSpec:
    """One supervised process as it is to be: the content of `unit.json`, and the files it reads.

    `digest` is over everything else in here, so equal digests mean that nothing that made the process changed.
    `worker` is set where the process is one of several of a worker larger than a node: its head, as `node/unit`.
    """

    name: str
    node: str
    roles: tuple[str, ...]
    folder: str
    document: dict[str, Any]
    files: tuple[tuple[str, str], ...] = ()  # (absolute path, content), 0600
    gpus: tuple[int, ...] = ()
    shown_env: tuple[tuple[str, str], ...] = ()  # its environment as people may see it: secrets are masked
    digest: str = ""
    worker: str = ""
    metrics: str | None = None  # `10.0.0.2:7800`, where Prometheus finds it; None for what has none of ours
    more_ports: tuple[int, ...] = ()  # that it may hold as well, though nobody waits for them

    @property
    def listens(self) -> tuple[int, ...]:
        """The TCP ports that the process will hold."""
        return tuple(self.document["listens"])

    @property
    def ports(self) -> tuple[int, ...]:
        """All TCP ports that it was given."""
        return (*self.listens, *self.more_ports)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that changes one node. `why` is printed beside it."""

    node: str
    why: str

    @property
    def title(self) -> str:
        """What happens, in words for a person."""
        raise NotImplementedError

    @property
    def interrupts(self) -> bool:
        """Whether something that serves now is stopped by it."""
        return False


@dataclass(frozen=True, slots=True)
class Push(Step):
    """Bring a file to the node, unpacked where it is an archive."""

    artifact: Artifact
    root: str

    @property
    def title(self) -> str:
        return f"push {self.artifact.title} ({size(self.artifact.size_bytes)})"


@dataclass(frozen=True, slots=True)
class MakeEnvironment(Step):
    """Build a Python environment from the requirements, or check the existing one that the topology names."""

    place: str
    root: str
    requirements: tuple[str, ...]
    python: str | None = None
    is_own: bool = False  # the very environment that runs dynoctl
    wheelhouse: str | None = None
    index_url: str | None = field(default=None, repr=False)
    extra_index_url: str | None = field(default=None, repr=False)
    extras: tuple[str, ...] = ()  # what the node's units need besides: vllm, nixl, …

    @property
    def title(self) -> str:
        if self.is_own:
            return "check dynoctl's own Python environment"
        if self.python:
            return f"check the environment of {self.python}"
        source = "a wheelhouse" if self.wheelhouse else "a package index"
        more = f" with {', '.join(self.extras)}" if self.extras else ""
        return f"build the Python environment{more} from {source}"


@dataclass(frozen=True, slots=True)
class FetchModel(Step):
    """Bring the files of a model to the node, from another node that offers them. `files` are (path, size in bytes,
    time at the source) of those that are lacking, `compared` of those that are there in their size and may be others;
    both are empty where nobody asked. `record` is kept of them."""

    model: str
    path: str
    source: str
    host: str
    port: int
    files: tuple[tuple[str, int, int], ...]
    compared: tuple[tuple[str, int, int], ...]
    record: str
    token: str = field(repr=False)

    @property
    def title(self) -> str:
        copied, compared = (sum(each[1] for each in files) for files in (self.files, self.compared))
        if self.compared and not self.files:
            return f"compare {self.model} with that of {self.source} ({size(compared)})"
        return (
            f"copy {self.model} from {self.source}"
            + (f" ({size(copied)})" if self.files else "")
            + (f", and compare the rest ({size(compared)})" if self.compared else "")
        )


@dataclass(frozen=True, slots=True)
class RecordTopology(Step):
    """Write the manifest, before anything starts: whoever comes next knows what was meant."""

    path: str
    content: str
    generation: int

    @property
    def title(self) -> str:
        return f"record the topology, generation {self.generation}"


@dataclass(frozen=True, slots=True)
class StopUnit(Step):
    """Stop a unit with all its descendants; `forget` removes its folder afterwards."""

    unit: str
    folder: str
    grace_s: float
    serves: bool
    forget: bool = False

    @property
    def title(self) -> str:
        return f"stop {self.unit}" + (" and forget it" if self.forget else "")

    @property
    def interrupts(self) -> bool:
        return self.serves


@dataclass(frozen=True, slots=True)
class StartUnit(Step):
    """Start a unit under supervision."""

    unit: UnitSpec

    @property
    def title(self) -> str:
        ports = [str(port) for port in self.unit.ports]
        where = f" on {'port' if len(ports) == 1 else 'ports'} {', '.join(ports)}" if ports else ""
        gpus = f", {spelled(self.unit.gpus)}" if self.unit.gpus else ""
        return f"start {self.unit.name}{where}{gpus}"


@dataclass(frozen=True, slots=True)
class PurgeServices(Step):
    """Take our keys, streams and leases out of an etcd and a NATS that other people run."""

    python: str
    code: str
    settings_path: str
    services: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"delete what this cluster keeps in the existing {' and '.join(self.services)}"


@dataclass(frozen=True, slots=True)
class ProveGone(Step):
    """Look for anything of ours that is left: processes by their marker, ports."""

    cluster: str
    ports: tuple[int, ...]
    known_as: str | None = None

    @property
    def title(self) -> str:
        return "prove that nothing is left"


@dataclass(frozen=True, slots=True)
class RemoveSession(Step):
    """Remove what Ray kept of a session."""

    path: str
    unit: str

    @property
    def title(self) -> str:
        return f"remove the session of {self.unit}"


@dataclass(frozen=True, slots=True)
class RemoveCluster(Step):
    """Remove this cluster's folder of this node."""

    path: str

    @property
    def title(self) -> str:
        return "remove its folder"


@dataclass(frozen=True, slots=True)
class Service:
    """etcd or NATS, to be proven before the roles use it. `node` asks: the one that runs it, else the first."""

    kind: Literal["nats", "etcd"]
    node: str
    url: str = field(repr=False)
    jetstream: bool = False


@dataclass(frozen=True, slots=True)
class Phase:
    """Steps that may run at the same time on different nodes, and in order on one node."""

    name: PhaseName
    steps: tuple[Step, ...]

    def by_node(self) -> dict[str, tuple[Step, ...]]:
        """The same steps in each node's own order."""
        nodes: dict[str, list[Step]] = {}
        for step in self.steps:
            nodes.setdefault(step.node, []).append(step)
        return {node: tuple(steps) for node, steps in nodes.items()}


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, whole: shown, executed and tested as this one value.

    `units` are all units of the cluster when it is complete, `unchanged` those left alone, as `node/unit`.
    """

    cluster: str
    verb: Literal["up", "down"]
    generation: int
    phases: tuple[Phase, ...]
    units: tuple[UnitSpec, ...] = ()
    unchanged: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in the order of their phases."""
        return tuple(step for phase in self.phases for step in phase.steps)

    @property
    def interrupts(self) -> tuple[Step, ...]:
        """The steps that stop something that serves now."""
        return tuple(step for step in self.steps if step.interrupts)

    def only(self, *names: PhaseName) -> Plan:
        """The same plan with no phases but these."""
        return replace(self, phases=tuple(phase for phase in self.phases if phase.name in names))

    def phase(self, name: PhaseName) -> Phase:
        """The phase of that name, empty where the plan has none."""
        return next((phase for phase in self.phases if phase.name == name), Phase(name, ()))


def size(count_bytes: int) -> str:
    """`2.3 GB`, `18.8 MB`, `96 kB`, `512 B`: powers of ten, as disks are sold."""
    if count_bytes >= 1_000_000_000:
        return f"{count_bytes / 1e9:.1f} GB"
    if count_bytes >= 1_000_000:
        return f"{count_bytes / 1e6:.1f} MB"
    if count_bytes >= 1_000:
        return f"{count_bytes / 1e3:.0f} kB"
    return f"{count_bytes} B"

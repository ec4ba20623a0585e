"""What was seen on the nodes, before anything is touched: one frozen record a node, read in one script.

In: nothing; these are values. Made by `plan.facts` from a node's output, read by `plan.build`, `probe`, `show`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from dynoctl.errors import NodeError
from dynoctl.plan.hardware import Hardware

HEARTBEAT_STALE_S = 10.0


@dataclass(frozen=True, slots=True)
class RoleHealth:
    """What a process says of one of its roles (`health.json`)."""

    port: bool = False
    registered: bool = False
    engine: str = "none"
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class UnitSeen:
    """One unit folder. `alive` is proved: pid, start time and boot id all match."""

    name: str
    digest: str | None
    phase: str
    alive: bool
    pid: int | None = None
    restarts: int = 0
    up_s: float = 0.0
    exit: dict[str, int] | None = None
    supervised: bool = True
    beat_age_s: float | None = None
    roles: dict[str, RoleHealth] = field(default_factory=dict)
    sees: dict[str, int] = field(default_factory=dict)
    listens: tuple[int, ...] | None = None  # by its supervisor; None where that did not say
    figures: dict[str, Any] | None = None  # `figures.json`, if this very process wrote it a moment ago

    @property
    def responding(self) -> bool:
        """False where the process is there but has not written its heartbeat for too long."""
        return self.beat_age_s is not None and self.beat_age_s <= HEARTBEAT_STALE_S


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the cluster's lock, what for, and since when (ISO 8601, by the holder's clock). `process` is its pid,
    start time, and the scope in which that pid means something."""

    who: str
    host: str
    doing: str
    since: str
    process: tuple[int, int, str] = (0, 0, "")


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """One node. Paths are absolute there; `have` are artifact paths below `root` that are whole; `known_as` is its
    name on its own disk, where that is another one."""

    node: str
    root: str
    hostname: str
    boot_id: str
    uptime_s: float
    listening: frozenset[int]
    have: frozenset[str]
    tools: dict[str, str]
    units: dict[str, UnitSeen]
    ports_asked: bool = True  # False: `listening` is empty because nobody asked
    user: str | None = None
    arch: str | None = None
    python: tuple[int, int, int] | None = None
    venv: bool = False
    free_bytes: int | None = None
    user_manager: bool = False
    manifest: dict[str, Any] | None = None
    lock: Holder | None = None
    home: str | None = None
    hardware: Hardware | None = None  # None: nobody asked
    models: tuple[Any, ...] = ()  # `plan.models.ModelSeen`, in the order of the question
    known_as: str | None = None
    beside: frozenset[int] = (
        frozenset()
    )  # ports of this cluster's living units that this machine keeps elsewhere

    def base(self, cluster: str) -> str:
        """The cluster's folder of this node."""
        return f"{self.root}/clusters/{cluster}/{self.known_as or self.node}"

    @property
    def generation(self) -> int:
        """How many times a changed topology was applied here; 0 on a node that never saw this cluster."""
        return int(self.manifest["generation"]) if self.manifest else 0

    @property
    def held_ports(self) -> frozenset[int]:
        """The ports at which living units of this cluster listen. What a supervisor says counts more than the
        manifest, which a run may have written that was cut off before the restart."""
        recorded = (self.manifest or {}).get("units", {})
        mine = set(self.beside)
        for name, unit in self.units.items():
            if unit.alive or unit.supervised:
                said = recorded.get(name, {}).get("listens", ()) if unit.listens is None else unit.listens
                mine.update(said)
        return frozenset(mine)

    @property
    def own_ports(self) -> frozenset[int]:
        """The ports that living units of this cluster were given: who listens there is no stranger. They may hold
        some that nobody waits for: where a span gathers, further ranks' KV, Ray's client."""
        recorded = (self.manifest or {}).get("units", {})
        chosen: dict[str, int] = (self.manifest or {}).get("ports", {})
        mine = set(self.held_ports)
        for name, unit in self.units.items():
            if unit.alive or unit.supervised:
                proved = recorded.get(name, {}).get("listens", ())
                unproved = {port for use, port in chosen.items() if use.startswith(f"{name}.")}
                mine |= unproved.difference(proved)
        return frozenset(mine)

    @property
    def own_gpus(self) -> frozenset[int]:
        """The GPUs of units that may compute there: who is seen there is one of us. Of a unit that failed or was
        stopped its supervisor has left nothing; of one whose supervisor is gone, something may be left. A run that
        was cut off may have recorded a unit that never ran, in the place of one that still does."""
        recorded = (self.manifest or {}).get("units", {})
        lives = any(unit.alive or unit.supervised for unit in self.units.values())
        gone = {
            name
            for name, unit in self.units.items()
            if unit.phase in ("failed", "stopped") and not (unit.alive or unit.supervised)
        }
        mine = (self.units.keys() | recorded.keys() if lives else self.units.keys()) - gone
        return frozenset(gpu for name in mine for gpu in recorded.get(name, {}).get("gpus", ()))

    def absolute(self, path: str) -> str:
        """A path on the node as programs there understand it: without `~/`, which only a shell knows."""
        home = (self.home or "").rstrip("/")
        return f"{home}/{path[2:]}" if home and path.startswith("~/") else path


@dataclass(frozen=True, slots=True)
class Observed:
    """All nodes: those that answered, and why the others did not."""

    nodes: dict[str, NodeSeen]
    failed: dict[str, NodeError] = field(default_factory=dict)

    def with_beside(self) -> Observed:
        """The same, each node knowing of ports that units of its former name or folder hold on the same machine."""
        machines: dict[tuple[str, str], list[NodeSeen]] = {}
        for seen in self.nodes.values():
            machines.setdefault((seen.boot_id, seen.hostname), []).append(seen)
        return Observed(
            {
                node: replace(
                    seen,
                    beside=frozenset(
                        port
                        for other in machines[seen.boot_id, seen.hostname]
                        if other is not seen
                        for port in other.own_ports
                    ),
                )
                for node, seen in self.nodes.items()
            },
            self.failed,
        )

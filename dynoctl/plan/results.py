"""Values that come back from a running cluster: how far each role got, and how a run ended.

Shared by `remote` and `probe`, which make them, and `show`, which prints them. Pure: rungs are computed here from
what was seen.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from dynoctl.plan.observed import Observed, UnitSeen
from dynoctl.plan.steps import UnitSpec

SERVICES = ("etcd", "nats")
PARTS = ("rank", "ray")  # of a worker that is larger than a node: they are no instances, their worker is
WATCHERS = ("frontend", "processor", "router")  # the roles that must see every instance of the others


class Rung(enum.IntEnum):
    """The readiness ladder. Only the last one is `ready`."""

    DOWN = 0
    ALIVE = 1
    LISTENING = 2
    REGISTERED = 3
    LOADED = 4
    SERVING = 5

    @property
    def word(self) -> str:
        """The rung as people read it."""
        return RUNG_WORDS[self]


RUNG_WORDS = {
    Rung.DOWN: "down",
    Rung.ALIVE: "process alive",
    Rung.LISTENING: "port answers",
    Rung.REGISTERED: "registered",
    Rung.LOADED: "engine loaded",
    Rung.SERVING: "serving",
}


@dataclass(frozen=True, slots=True)
class RoleState:
    """How far one role of one unit got, and what holds it there."""

    node: str
    unit: str
    role: str
    rung: Rung
    note: str = ""
    pid: int | None = None
    up_s: float = 0.0
    restarts: int = 0
    failed: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells this role from all others."""
        return (self.node, self.unit, self.role)

    @property
    def top(self) -> Rung:
        """The last rung that this role can show by itself: a service has no engine and registers nowhere."""
        return Rung.LISTENING if self.role in SERVICES else Rung.LOADED

    @property
    def serves(self) -> bool:
        """Whether requests come to it, so that a token can prove it."""
        return self.role not in (*SERVICES, *PARTS)

    @property
    def climbed(self) -> bool:
        """Whether only the proof by a token is missing."""
        return self.rung >= self.top


def expected_counts(units: tuple[UnitSpec, ...]) -> dict[str, int]:
    """Instances by role when the cluster is complete; services and parts of a worker are not instances."""
    counts: dict[str, int] = {}
    for unit in units:
        for role in unit.roles:
            if role not in (*SERVICES, *PARTS):
                counts[role] = counts.get(role, 0) + 1
    return counts


def role_states(
    spec: UnitSpec, seen: UnitSeen | None, listening: bool, expects: Mapping[str, int]
) -> tuple[RoleState, ...]:
    """Every role of one unit. `listening`: all its ports are in LISTEN on the node."""
    return tuple(_role_state(spec, role, seen, listening, expects) for role in spec.roles)


def _role_state(
    spec: UnitSpec, role: str, seen: UnitSeen | None, listening: bool, expects: Mapping[str, int]
) -> RoleState:
    def at(rung: Rung, note: str = "", *, failed: bool = False) -> RoleState:
        if seen is None:
            return RoleState(spec.node, spec.name, role, rung, note)
        return RoleState(spec.node, spec.name, role, rung, note, seen.pid, seen.up_s, seen.restarts, failed)

    if seen is None:
        return at(Rung.DOWN, "not started")
    if not seen.alive:
        return at(Rung.DOWN, _why_down(seen), failed=seen.phase == "failed")
    if role in SERVICES:
        return at(Rung.LISTENING if listening else Rung.ALIVE)
    if seen.beat_age_s is not None and not seen.responding:
        return at(Rung.ALIVE, f"not responding for {seen.beat_age_s:.0f} s")
    said = seen.roles.get(role)
    if said is None or not (said.port and listening):
        return at(Rung.ALIVE, said.problem or "" if said else "")
    if not said.registered:
        return at(Rung.LISTENING, said.problem or "")
    if role in WATCHERS and (missing := _missing(seen.sees, expects)):
        return at(Rung.LISTENING, f"sees {missing}")
    if said.engine not in ("ready", "none"):
        return at(Rung.REGISTERED, said.problem or f"engine {said.engine}", failed=said.engine == "failed")
    return at(Rung.LOADED, said.problem or "")


def _missing(sees: Mapping[str, int], expects: Mapping[str, int]) -> str:
    """`decode 1 of 2`: the first role whose live count is not exactly what it should be."""
    for role, count in expects.items():
        if sees.get(role, 0) != count:
            return f"{role} {sees.get(role, 0)} of {count}"
    return ""


def _why_down(seen: UnitSeen) -> str:
    ended = ""
    if seen.exit:
        ended = f", last end: {_end(seen.exit)}"
    match seen.phase:
        case "failed":
            return f"gave up after {seen.restarts} restart{'' if seen.restarts == 1 else 's'}{ended}"
        case "waiting":
            return f"waits to be restarted{ended}"
        case "stopped":
            return "stopped"
        case "unknown":
            return "half-started"
        case _:
            return f"not running{ended}"


def _end(exit: Mapping[str, int]) -> str:
    """An adopted process is nobody's child, so nobody learns how it ended."""
    if "signal" in exit:
        return f"signal {exit['signal']}"
    return f"exit {exit['code']}" if "code" in exit else "unknown"


def cluster_states(units: tuple[UnitSpec, ...], observed: Observed) -> tuple[RoleState, ...]:
    """Every role of the cluster, in the order of `units`; a node that did not answer is named in the note."""
    expects = expected_counts(units)
    states: list[RoleState] = []
    for spec in units:
        node = observed.nodes.get(spec.node)
        if node is None:
            note = "its node did not answer"
            states.extend(RoleState(spec.node, spec.name, role, Rung.DOWN, note) for role in spec.roles)
            continue
        listening = not node.ports_asked or all(port in node.listening for port in spec.listens)
        states.extend(role_states(spec, node.units.get(spec.name), listening, expects))
    return tuple(states)


@dataclass(frozen=True, slots=True)
class Proof:
    """A real token that came back through the whole path (rung 5)."""

    node: str
    worker: str
    remote_prefill: str | None
    milliseconds: float
    output: str


@dataclass(frozen=True, slots=True)
class StepResult:
    """How one step ended. `error` is None where it did what it says."""

    node: str
    title: str
    seconds: float
    error: str | None = None
    detail: tuple[str, ...] = ()

"""What every role is, and what it may use.

Four beats, the same for all: `start` (handlers and ports), `run` (work of its own, until drained), `drain` (admit no
more), `stop` (let go). A role finds everything that it needs in `Surroundings` and never imports another role.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from dyno_runtime.bus.base import Queue, Store
from dyno_runtime.bus.peers import Peers
from dyno_runtime.core.view import View
from dyno_runtime.engine.base import Engine
from dyno_runtime.metrics.kinds import Meter
from dyno_runtime.roles.desk import Desk
from dyno_runtime.roles.live import Live
from dyno_runtime.roles.metering import Metering
from dyno_runtime.roles.names import Names
from dyno_runtime.settings import ProcessSettings
from dyno_runtime.wire.messages import Address, Choose, Chosen, Failure, LeaseId, Role

DRAINING = Failure("draining", "this process is going away")
NOT_READY = Failure("not_ready", "the engine is still loading")


class Watched(Protocol):
    """The members of the cluster as roles see them."""

    @property
    def view(self) -> View:
        """Who is there."""


class Reachable(Queue, Protocol):
    """The queue, and whether asking it makes sense."""

    @property
    def up(self) -> bool:
        """It is connected."""


class Routes(Protocol):
    """A router in this very process, called without a message."""

    def choose(self, choose: Choose) -> Chosen | Failure:
        """Which worker?"""

    def begun(self, request: str) -> None:
        """Its first token came."""

    def ended(self, request: str) -> None:
        """It is over, however it ended. Ids that are not known are ignored."""

    def explain(self, choose: Choose) -> dict[str, Any]:
        """Where it would go, and why, as a JSON object."""


@dataclass
class Beside:
    """What other roles of this process offer to the one that looks."""

    router: Routes | None = None


@dataclass(frozen=True)
class Surroundings:
    """What a process gives to its roles."""

    settings: ProcessSettings
    lease: LeaseId
    own: Address
    peers: Peers
    members: Watched
    queue: Reachable
    rng: Random
    engine: Engine | None
    engine_ready: asyncio.Event
    queue_down: asyncio.Event
    queue_clear: asyncio.Event  # what an earlier life of the cluster left in the queue is gone
    live: Live  # what may be changed while the cluster runs
    names: Names  # what models are called
    metering: Metering
    store: Store
    desk: Desk = field(default_factory=Desk)
    beside: Beside = field(default_factory=Beside)

    @property
    def meter(self) -> Meter:
        """What roles count with."""
        return self.metering.meter

    @property
    def place(self) -> str:
        """This process's name for people, `node1/decode-0`."""
        return f"{self.settings.node}/{self.settings.unit}"


class Part:
    """One role in this process."""

    name: Role

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self.draining = False
        self.problem: str | None = None

    async def start(self) -> None:
        """Take requests from now on. Raises Refused where a port is taken."""

    async def run(self) -> None:
        """Work of its own; returns soon after `drain`."""

    @property
    def in_flight(self) -> int:
        """Requests that are not answered yet."""
        return 0

    def drain(self) -> None:
        """Admit no more; what is in flight goes on."""
        self.draining = True

    async def stop(self) -> None:
        """Cut what is left."""

    def measure(self) -> None:
        """Set the gauges, and the counters that are counted elsewhere: somebody looks at the metrics."""

    def view_changed(self) -> None:
        """Instances came, went or changed, or a model got or lost a name."""

    def config_changed(self) -> None:
        """What may be changed while the cluster runs has changed."""

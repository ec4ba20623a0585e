"""Looking at nodes: one script each, read-only, all facts at once.

In: a fleet, the names under which a cluster keeps its files. Out: `Observed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dynoctl.errors import CommandFailed
from dynoctl.plan import facts
from dynoctl.plan.observed import NodeSeen, Observed
from dynoctl.plan.script import NodePath
from dynoctl.remote.connection import Connection
from dynoctl.remote.fleet import Fleet

OBSERVE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Look:
    """Where to look on one node. `prepared`: files that, when all are there, spare the costlier questions.
    `known_as`: its name when the cluster was brought up, where it has another one now. `thorough`: also ask which
    ports are taken, which a plan needs that starts something; then also for its `hardware`, where vLLM shall run,
    and for the folders of `models`."""

    root: str
    prepared: tuple[str, ...] = ()
    known_as: str | None = None
    thorough: bool = True
    hardware: bool = False
    models: tuple[str, ...] = ()


def observe(
    fleet: Fleet, cluster: str, looks: Mapping[str, Look], after: Callable[[NodeSeen], None] | None = None
) -> Observed:
    """Ask every node of `looks`; those that cannot be asked are in `failed`. `after` is called on each node's thread
    with what was seen there, while others are still being asked."""

    def ask(connection: Connection) -> NodeSeen:
        look = looks[connection.node]
        name = look.known_as or connection.node
        script = facts.observe_script(
            NodePath(look.root),
            cluster,
            name,
            look.prepared,
            thorough=look.thorough,
            hardware=look.hardware,
            models=look.models,
        )
        done = connection.run(script, timeout_s=OBSERVE_TIMEOUT_S)
        if done.status != 0:
            tail = done.err.decode(errors="replace").strip().splitlines()[-5:]
            raise CommandFailed(
                connection.node, f"the look at the node ended with status {done.status}", detail=tail
            )
        seen = replace(
            facts.parse(connection.node, done.out.decode(errors="replace")), known_as=look.known_as
        )
        if after is not None:
            after(seen)
        return seen

    nodes, failed = fleet.each(looks, ask)
    return Observed(nodes, failed)

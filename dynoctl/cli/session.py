"""One run of a verb against a cluster: its nodes, connections, artifacts; opened once, closed at the end.

In: a target. Out: what the verbs are made of: `look`, `plan_up`, and the means to carry a plan out. This is where the
rooms meet; no decision is taken here.
"""

from __future__ import annotations

import getpass
import json
import secrets
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from dynoctl.cli import known
from dynoctl.cli.target import Target
from dynoctl.errors import TopologyError
from dynoctl.plan.build import build
from dynoctl.plan.former import Former, former, without_doubles
from dynoctl.plan.manifest import Stamp
from dynoctl.plan.models import needs
from dynoctl.plan.observed import NodeSeen, Observed
from dynoctl.plan.site import Kit, Site, site
from dynoctl.plan.steps import Plan
from dynoctl.plan.workers import extras_of, vllm_nodes
from dynoctl.remote import node_program
from dynoctl.remote.addresses import addresses
from dynoctl.remote.artifacts import Artifacts, is_installed
from dynoctl.remote.dial import Connections, Dialler
from dynoctl.remote.execute import Means
from dynoctl.remote.fleet import Fleet
from dynoctl.remote.host_keys import HostKeys, Pinned
from dynoctl.remote.observe import Look, observe
from dynoctl.show.terminal import Terminal
from dynoctl.topology.load import parse
from dynoctl.topology.model import Topology
from dynoctl.topology.placement import Machine
from dynoctl.topology.secret import Url


@dataclass
class Session:
    """See the module. `machines` are those of the topology, and `former` those that only an earlier one had."""

    target: Target
    terminal: Terminal
    machines: dict[str, Machine]
    dialler: Dialler
    fleet: Fleet
    artifacts: Artifacts
    former: dict[str, Former]

    @cached_property
    def kit(self) -> Kit:
        """What can be sent to nodes."""
        return Kit(
            node_program=self.artifacts.node_program,
            runtime=self.artifacts.runtime,
            requirements=self.artifacts.requirements,
            nats=self.artifacts.nats,
            etcd=self.artifacts.etcd,
            wheels=self.artifacts.wheels,
            extras=self.artifacts.extras,
        )

    def look(self, *, thorough: bool = False, after: Callable[[NodeSeen], None] | None = None) -> Observed:
        """Ask every node; where a node knows of a topology that had other machines, ask those as well.

        `thorough`: for a plan that starts something. Nodes where everything runs are spared the costlier questions.
        `after`: what else is to be asked of a node, right behind its look.
        """
        seen = self._ask_about(self._places(), thorough=thorough, after=after)
        more = self._recorded(seen)
        if more:
            self.former.update(more)
            self.dialler.know(each.machine for each in more.values())
            others = self._ask_about(list(more.values()), thorough=thorough, after=after)
            seen = Observed({**seen.nodes, **others.nodes}, {**seen.failed, **others.failed})
        return without_doubles(seen)

    def look_again(self, before: Observed) -> Observed:
        """Ask only the nodes that answered before: one that is away would take its time-out once more."""
        return self._ask_about(
            [each for each in self._places() if each.machine.name in before.nodes], thorough=False
        )

    def _places(self) -> list[Former]:
        return [*(Former(machine, name) for name, machine in self.machines.items()), *self.former.values()]

    def _ask_about(
        self, places: list[Former], *, thorough: bool, after: Callable[[NodeSeen], None] | None = None
    ) -> Observed:
        prepared = (self.artifacts.node_program.place,)
        with_vllm = vllm_nodes(self.target.topology)
        looks = {
            each.machine.name: Look(
                each.machine.state_dir,
                prepared,
                None if each.known_as == each.machine.name else each.known_as,
                thorough,
                hardware=each.machine.name in with_vllm,
                models=tuple(need.place for need in needs(self.target.topology, each.machine.name)),
            )
            for each in places
        }
        return observe(self.fleet, self.target.name, looks, after)

    def _recorded(self, seen: Observed) -> dict[str, Former]:
        """Machines that the newest manifest knows and we do not know yet."""
        before = self.newest(seen)
        if before is None:
            return {}
        found = {each.machine.name: each for each in former(self.target.topology, before)}
        return {name: each for name, each in found.items() if name not in self.former}

    def newest(self, seen: Observed) -> Topology | None:
        """The topology that was applied last, by what the nodes keep, where it has other nodes or services than this
        one; None where it has the same, or none can be read."""
        manifests = [found.manifest for found in seen.nodes.values() if found.manifest]
        newest = max(manifests, key=lambda found: int(found["generation"]), default=None)
        if newest is None or _same_places(newest["topology"], self.target.topology):
            return None
        try:
            return parse(json.dumps(newest["topology"]), f"the topology that {newest['node']} keeps")
        except TopologyError:
            return None  # written by a dynoctl with other rules: what is known here has to do

    def sites(self, observed: Observed, *, offline: bool = False) -> dict[str, Site]:
        """The nodes of the topology as the plan needs them."""
        topology = self.target.topology
        found = addresses(topology.machines, self.dialler, look_up=not offline)
        return {
            name: site(
                topology.name,
                machine,
                found[name],
                self.kit,
                observed.nodes.get(name),
                own_python=self._own_python(extras_of(topology, name)),
                index_url=_revealed(topology.install.index_url),
                extra_index_url=_revealed(topology.install.extra_index_url),
                extras=extras_of(topology, name),
                login="" if machine.is_local else self.dialler.target(name).login,
            )
            for name, machine in topology.machines.items()
        }

    def _own_python(self, extras: tuple[str, ...]) -> str | None:
        """The interpreter that runs this program, where it has what is needed besides: else one is made."""
        needed = [line for name in extras for line in self.artifacts.extras[name]]
        return own_python() if all(map(is_installed, needed)) else None

    def plan_up(self, observed: Observed, *, offline: bool = False) -> Plan:
        """What `up` would do."""
        observed = observed.with_beside()
        sites = self.sites(observed, offline=offline)
        stamp = Stamp(getpass.getuser(), socket.gethostname(), now(), secrets.token_hex(16))
        return build(self.target.topology, sites, observed, stamp)

    def means(self, observed: Observed) -> Means:
        """What carrying a plan out needs."""
        place = self.artifacts.node_program.place
        roots = {name: seen.root for name, seen in observed.nodes.items()}
        return Means({name: f"{root}/{place}" for name, root in roots.items()}, roots, self.artifacts.content)

    def programs(self, observed: Observed) -> dict[str, str]:
        """A node program that is on each node already, for verbs that bring nothing: ours, else the one of whoever
        applied the topology. A node without one is left out."""
        place = self.artifacts.node_program.place
        recorded = {
            name: str(seen.manifest["runtime"]["node_program"])
            for name, seen in observed.nodes.items()
            if seen.manifest
        }
        own = {name: f"{seen.root}/{place}" for name, seen in observed.nodes.items() if place in seen.have}
        return {**recorded, **own}

    def ask(self, programs: dict[str, str], node: str, verb: str, request: dict[str, Any]) -> dict[str, Any]:
        """One question to the node program of one node."""
        return node_program.ask(self.fleet.connection(node), programs[node], verb, request)

    def ask_all(
        self, programs: dict[str, str], node: str, verb: str, request: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """One question with several answers."""
        return node_program.stream(
            self.fleet.connection(node), programs[node], verb, request, timeout_s=node_program.ASK_TIMEOUT_S
        )


def _same_places(recorded: Mapping[str, Any], now: Topology) -> bool:
    """Whether a recorded topology has the nodes and services of this one; spares reading it, which takes a while."""
    own = now.dump(reveal=True)
    return all(recorded.get(key) == own.get(key) for key in ("nodes", "ssh", "state_dir", "services"))


def _revealed(url: Url | None) -> str | None:
    return url.reveal() if url else None


def own_python() -> str:
    """The interpreter of this environment, by the same name however dynoctl was called."""
    usual = Path(sys.prefix) / "bin" / "python3"
    return str(usual) if usual.exists() else sys.executable


def now() -> str:
    """The time as people and programs read it: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@contextmanager
def opened(target: Target, terminal: Terminal, *, pin: bool = False) -> Iterator[Session]:
    """A session; `pin` for the verb that may meet nodes for the first time."""
    machines = target.topology.machines
    before = former(target.topology, target.before) if target.before else ()

    def on_pin(pinned: Pinned) -> None:
        where = f", as in {pinned.known}" if pinned.known else ": compare it with the node's own"
        terminal.say(f"{pinned.node}: host key pinned, {pinned.key}{where}")

    keys = HostKeys(known.known_hosts(target.name), pin=pin, on_pin=on_pin)
    dialler = Dialler([*machines.values(), *(each.machine for each in before)], keys)
    wheelhouse = target.topology.install.wheelhouse
    artifacts = Artifacts(Path(wheelhouse).expanduser() if wheelhouse else None)
    with Connections(dialler) as connections:
        known_before = {each.machine.name: each for each in before}
        yield Session(target, terminal, machines, dialler, Fleet(connections), artifacts, known_before)

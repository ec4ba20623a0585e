"""What a benchmark measures: a cluster that runs, or any OpenAI server.

In: what was typed. Out: a `Subject`: its URL and model, what is known of it, and how it looks at a moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from dynoctl.bench.machines import Question, parse
from dynoctl.bench.record import Machine, Snapshot, Target, UnitAt
from dynoctl.cli.bench_app import Asked
from dynoctl.cli.bench_tokenizer import fetched
from dynoctl.cli.session import Session, opened
from dynoctl.cli.target import resolve
from dynoctl.cli.up import address
from dynoctl.errors import NotReady, UsageError
from dynoctl.plan.digest import digest_of
from dynoctl.plan.manifest import cluster_units
from dynoctl.plan.observed import Observed
from dynoctl.plan.results import cluster_states
from dynoctl.probe import token
from dynoctl.probe.bench import http
from dynoctl.remote.connection import Connection
from dynoctl.show.terminal import Terminal
from dynoctl.topology.model import Topology

MACHINE_TIMEOUT_S = 30.0


class Subject(Protocol):
    """What is measured."""

    @property
    def target(self) -> Target: ...

    @property
    def knows_tokenizer(self) -> bool:
        """Whether `tokenizer` answers; else only a person can name one."""

    def tokenizer(self, cache: Path) -> Path | None:
        """The folder of the model's tokenizer, brought here where need be; None where a token is a byte."""

    def snapshot(self) -> Snapshot:
        """How it looks now."""

    def machines(self) -> dict[str, Machine]:
        """The nodes that it runs on."""


@dataclass(frozen=True)
class Server:
    """Any OpenAI server: nothing is known but what it says itself."""

    target: Target
    knows_tokenizer = False

    def tokenizer(self, cache: Path) -> Path | None:
        return None

    def snapshot(self) -> Snapshot:
        return Snapshot(counters=http.counted(self.target.url))

    def machines(self) -> dict[str, Machine]:
        return {}


class Cluster:
    """A cluster of ours."""

    knows_tokenizer = True

    def __init__(self, session: Session, asked: Asked) -> None:
        self._session = session
        topology = session.target.topology
        observed = session.look()
        self._observed = observed
        _refuse_unready(topology, observed, asked.target or topology.name)
        served = sorted(set(token.models(topology).values()))
        if not served:
            raise UsageError(
                f"{topology.name} runs the engine hello, which has no OpenAI API to measure",
                next="dynoctl up topologies/local.yaml",
            )
        url = address(session)
        model = http.choose(url, asked.model or (served[0] if len(served) == 1 else None))
        self._model = next(
            (
                placement
                for placement in topology.placements
                if placement.model is not None and model in (placement.model.name, placement.model.id)
            ),
            None,
        )
        self.target = Target(
            url=url,
            model=model,
            cluster=topology.name,
            generation=max(seen.generation for seen in observed.nodes.values()),
            topology=digest_of(topology.dump()),
            gpus=gpus(topology),
        )

    def tokenizer(self, cache: Path) -> Path | None:
        placement = self._model
        if placement is None or placement.model is None or placement.engine is None:
            raise UsageError(
                f"which files {self.target.model} is made of is not known here",
                next="the same with --tokenizer FOLDER",
            )
        if placement.engine.kind == "mock" and "/" not in placement.model.id:
            return None
        return fetched(self._session.fleet.connection(placement.node), placement.model.id, cache)

    def snapshot(self) -> Snapshot:
        observed = self._session.look()
        units = {
            f"{node}/{name}": UnitAt(
                pid=unit.pid if unit.alive else None, restarts=unit.restarts, digest=unit.digest
            )
            for node, seen in observed.nodes.items()
            for name, unit in seen.units.items()
        }
        generation = max((seen.generation for seen in observed.nodes.values()), default=0)
        return Snapshot(generation=generation, units=units, counters=http.counted(self.target.url))

    def machines(self) -> dict[str, Machine]:
        runtimes = {
            node: seen.manifest["runtime"] for node, seen in self._observed.nodes.items() if seen.manifest
        }

        def ask(connection: Connection) -> Machine:
            runtime = runtimes[connection.node]
            question = Question(runtime["python"])
            done = connection.run(question.script, timeout_s=MACHINE_TIMEOUT_S)
            code = Path(runtime["code"]).name
            try:
                found = parse(done.out, code)
            except (ValueError, TypeError):
                found = Machine(hostname=connection.node, code=code)
            return msgspec.structs.replace(found, engines=self._engines(connection.node, found, code))

        found, _ = self._session.fleet.each(runtimes, ask)
        return found

    def _engines(self, node: str, found: Machine, code: str) -> dict[str, str]:
        """The versions of what makes tokens there; engines of our own are of the runtime's version."""
        kinds = {
            one.engine.kind
            for one in self._session.target.topology.placements
            if one.engine is not None and node in one.nodes
        }
        return {**dict.fromkeys(sorted(kinds), code), **found.engines}


def _refuse_unready(topology: Topology, observed: Observed, typed: str) -> None:
    """Raises NotReady: a cluster that is not up is not worth measuring."""
    states = cluster_states(cluster_units(topology, observed), observed)
    if not states:
        raise NotReady(
            f"{topology.name} does not run, so there is nothing to measure",
            next=f"dynoctl up {typed}",
        )
    short = [state for state in states if not state.climbed]
    if short:
        raise NotReady(
            f"{len(short)} of {len(states)} roles of {topology.name} are not up, so nothing is measured",
            next=f"dynoctl status {typed}",
        )


def gpus(topology: Topology) -> int:
    """How many the workers have in all; 0 where their engines need none."""
    return sum(
        placement.gpus_per_node * len(placement.nodes)
        for placement in topology.placements
        if placement.engine is not None and placement.engine.kind == "vllm"
    )


@contextmanager
def subject(asked: Asked, terminal: Terminal) -> Iterator[Subject]:
    """What is meant, for as long as it is measured."""
    if asked.url is None:
        with opened(resolve(asked.target, as_applied=True), terminal) as session:
            yield Cluster(session, asked)
        return
    if asked.target is not None:
        raise UsageError("a cluster and --url were given: only one can be measured at a time")
    url = asked.url.rstrip("/").removesuffix("/v1")
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url {asked.url} does not begin with http:// or https://")
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise UsageError(
            "--url has a user or a password in it, which everybody who lists processes can see",
            next="the same without it; a server's key goes into the environment, as OPENAI_API_KEY",
        )
    if parts.query or parts.fragment:
        raise UsageError(f"--url {parts.scheme}://{parts.netloc}{parts.path} must end there, without ? and #")
    yield Server(Target(url=url, model=http.choose(url, asked.model)))

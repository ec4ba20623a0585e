"""`dynoctl up`: look, plan, show, lock, carry out, climb the ladder, prove with a token."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from dynoctl.cli import known
from dynoctl.cli.holding import locked
from dynoctl.cli.planned import planned
from dynoctl.cli.session import Session, opened
from dynoctl.cli.target import resolve
from dynoctl.errors import DynoctlError, Exit, Interrupted, NotReady
from dynoctl.plan.observed import Observed
from dynoctl.plan.results import Proof, RoleState, StepResult, cluster_states
from dynoctl.plan.steps import Plan
from dynoctl.probe import ready, token
from dynoctl.probe.services import prove_services
from dynoctl.remote import node_program
from dynoctl.remote.addresses import addresses
from dynoctl.remote.execute import Events, Means, execute
from dynoctl.remote.window import over
from dynoctl.show import json as show_json
from dynoctl.show import text
from dynoctl.show.live import Progress, progress
from dynoctl.show.terminal import Terminal, as_typed

PROOFS = 8  # requests that prove at the same time; a node starts a short program for each


def up(typed: str | None, overrides: list[str], *, yes: bool, dry_run: bool, json: bool) -> int:
    """Bring the cluster to what the topology says, and prove it."""
    terminal = Terminal(quiet=json)
    started = time.monotonic()
    with opened(resolve(typed, overrides), terminal, pin=True) as session:
        observed, plan = planned(session, yes=yes)
        _show(plan, terminal, asked=dry_run)
        states = cluster_states(plan.units, observed)
        if not plan.steps and all(state.climbed for state in states):
            target = session.target  # a cluster that somebody else brought up is known here from now on
            known.remember(target.file, target.topology, target.overrides)
            return _nothing_to_do(plan, states, session, terminal, json=json)
        if dry_run:
            if json:
                terminal.result(show_json.plan(plan))
            return Exit.DONE
        if plan.interrupts and not _agreed(plan, terminal, yes=yes):
            terminal.say("nothing was changed")
            return Exit.FAILED
        run = Run(session, plan, observed)
        with progress(terminal) as shown:
            run.carry_out(shown)
        _outcome(run, terminal, time.monotonic() - started, json=json)
    return Exit.DONE


class Run:
    """One `up` that changes something, or waits for what an earlier one started."""

    def __init__(self, session: Session, plan: Plan, observed: Observed) -> None:
        self.session = session
        self.plan = plan
        self.means: Means = session.means(observed)
        self.results: list[StepResult] = []
        self.states: tuple[RoleState, ...] = ()
        self.proofs: list[Proof] = []
        self._observed = observed

    def carry_out(self, shown: Progress) -> None:
        """Everything behind the plan, under the cluster's lock."""
        target = self.session.target
        try:
            with locked(self.session, self._observed, self.means, doing="dynoctl up"):
                self._execute(shown)
                self.states = self._climb(shown)
                self.proofs = self._prove(shown)
        except KeyboardInterrupt:
            raise self._interrupted() from None
        except DynoctlError as error:
            error.next = error.next or f"mend that, then the same up again; or dynoctl down {target.name}"
            raise

    def _execute(self, shown: Progress) -> None:
        events = Events(on_phase=shown.phase, on_progress=shown.progress, on_step=self._step(shown))
        target, fleet = self.session.target, self.session.fleet
        execute(self.plan.only("leave"), fleet, self.means, events)
        # From here on the new topology counts; before, only the old one names the nodes that leave.
        known.remember(target.file, target.topology, target.overrides)
        execute(self.plan.only("prepare", "offer", "stage", "withdraw"), fleet, self.means, events)
        execute(self.plan.only("stop", "stop-ray", "services"), fleet, self.means, events)
        for line in prove_services(self.plan, partial(self.session.ask_all, self.means.programs)):
            shown.note(line)
        execute(self.plan.only("ray", "ray-join"), fleet, self.means, events)
        self._prove_rays(shown)
        execute(self.plan.only("roles"), fleet, self.means, events)

    def _step(self, shown: Progress) -> Callable[..., None]:
        def on_step(step: Any, result: StepResult) -> None:
            self.results.append(result)
            shown.step(step, result)

        return on_step

    def _prove_rays(self, shown: Progress) -> None:
        """Every Ray cluster has all its nodes and GPUs before a worker stands on it."""
        rays = tuple(spec for spec in self.plan.units if "ray" in spec.roles)
        if not rays:
            return
        watch, fan = self._watching()
        ready.climb(rays, ready.Board(rays, lambda states, state: None), watch, fan, self._known_ends())
        for worker, nodes in Counter(spec.worker for spec in rays).items():
            shown.note(f"Ray of {worker} is proven: it has all its GPUs, on {text.count(nodes, 'node')}")

    def _watching(self) -> tuple[ready.Watch, ready.Fan]:
        """How the node program of each node is asked to watch."""
        fleet = self.session.fleet

        def watch(
            node: str, request: ready.View, on_answer: Callable[[ready.View], None], timeout_s: float
        ) -> ready.View:
            answers = node_program.stream(
                fleet.connection(node),
                self.means.programs[node],
                "watch",
                request,
                timeout_s=timeout_s,
                on_answer=on_answer,
            )
            return answers[-1] if answers else {"reason": "ended"}

        def fan(
            nodes: tuple[str, ...], do: Callable[[str], ready.View]
        ) -> Iterator[tuple[str, ready.View | DynoctlError]]:
            return fleet.as_they_end(nodes, lambda connection: do(connection.node))

        return watch, fan

    def _climb(self, shown: Progress) -> tuple[RoleState, ...]:
        watch, fan = self._watching()
        shown.note(text.LADDER_TITLE)
        # The watches saw roles on their way; one more look shows all of them, the services too, at the same moment.
        # What has slipped by then (a vanishing instance made a count right for a moment) is waited for once more.
        for _ in range(2):
            board = ready.Board(self.plan.units, shown.states)
            ready.climb(self.plan.units, board, watch, fan, self._known_ends())
            states = cluster_states(self.plan.units, self.session.look())
            short = [state for state in states if not state.climbed]
            if not short:
                return states
        raise NotReady(
            f"{len(short)} of {len(states)} roles are not up, though each was for a moment",
            detail=[text.state_line(state) for state in short],
            next=f"dynoctl status {self.session.target.name}",
        )

    def _known_ends(self) -> dict[tuple[str, str], int]:
        """How often the units that this run leaves alone had ended when it looked."""
        return {
            (node, unit): seen.restarts + (seen.phase == "waiting")
            for node, found in self._observed.nodes.items()
            for unit, seen in found.units.items()
            if f"{node}/{unit}" in self.plan.unchanged
        }

    def _prove(self, shown: Progress) -> list[Proof]:
        topology = self.session.target.topology
        routes = token.routes(self.plan.units, token.models(topology), token.helped(topology))
        if not routes:
            raise NotReady("there is no frontend and decode worker to send a token through")
        proofs: dict[int, Proof] = {}
        numbers = range(len(routes))
        for number, proof in over(numbers, lambda each: token.prove(routes[each], self._ask), window=PROOFS):
            if isinstance(proof, DynoctlError):
                raise proof
            shown.note(text.proof_line(proof))
            proofs[number] = proof
        return [proofs[number] for number in numbers]

    def _ask(self, node: str, request: dict[str, Any]) -> dict[str, Any]:
        return self.session.ask(self.means.programs, node, "ask", request)

    def _interrupted(self) -> Interrupted:
        started = [
            result for result in self.results if result.title.startswith("start ") and not result.error
        ]
        verb = "goes" if len(started) == 1 else "go"
        return Interrupted(
            f"interrupted; {text.count(len(started), 'unit')} started by this run {verb} on running",
            detail=[f"{result.node}: {result.title}" for result in started],
            next=f"the same up goes on from here, dynoctl down {self.session.target.name} removes it",
        )


def _show(plan: Plan, terminal: Terminal, *, asked: bool) -> None:
    """The plan: the result itself where only the plan was asked for."""
    for warning in plan.warnings:
        terminal.warn(warning)
    if plan.steps:
        for line in (*text.plan_lines(plan), ""):
            if asked and not terminal.quiet:
                terminal.result(line)
            else:
                terminal.say(line)


def _agreed(plan: Plan, terminal: Terminal, *, yes: bool) -> bool:
    """Ask only a person, and only before something that serves is stopped."""
    if yes or not terminal.live:
        return True
    names = ", ".join(f"{step.node}: {step.title}" for step in plan.interrupts)
    return terminal.confirm(f"This interrupts what serves now ({names}). Go on?")


def _nothing_to_do(
    plan: Plan, states: tuple[RoleState, ...], session: Session, terminal: Terminal, *, json: bool
) -> int:
    if json:
        terminal.result(show_json.outcome(plan, states, [], [], address(session), 0.0))
        return Exit.DONE
    terminal.result(f"{plan.cluster}: no changes; all {len(plan.units)} units run as the topology says.")
    terminal.result(f"address  {address(session)}")
    return Exit.DONE


def address(session: Session) -> str:
    """What a client dials: the first frontend."""
    frontend = next(
        placement for placement in session.target.topology.placements if placement.role == "frontend"
    )
    machine = session.target.topology.machines[frontend.node]
    found = addresses({frontend.node: machine}, session.dialler, look_up=False)
    return f"http://{found[frontend.node]}:{frontend.port}"


def _outcome(run: Run, terminal: Terminal, seconds: float, *, json: bool) -> None:
    where = address(run.session)
    if json:
        terminal.result(show_json.outcome(run.plan, run.states, run.proofs, run.results, where, seconds))
        return
    nodes = len(run.session.target.topology.machines)
    terminal.result(text.states_table(run.states, served=True))
    terminal.result()
    terminal.result(
        f"{run.plan.cluster} is up: {len(run.plan.units)} units on {nodes} node{'s' if nodes > 1 else ''}, "
        f"generation {run.plan.generation}, in {seconds:.1f} s."
    )
    model = next(iter(token.models(run.session.target.topology).values()), None)
    for line in text.next_lines(where, run.plan.cluster, model):
        terminal.result(as_typed(line))

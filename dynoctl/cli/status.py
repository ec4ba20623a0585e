"""`dynoctl status`: every role, how far it is on the ladder, and whether the cluster serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dynoctl.cli.nodes import name_unreachable
from dynoctl.cli.session import Session, opened
from dynoctl.cli.target import resolve
from dynoctl.errors import DynoctlError, Exit
from dynoctl.plan.figures import cluster_figures
from dynoctl.plan.manifest import cluster_units, recorded_units
from dynoctl.plan.observed import NodeSeen, Observed
from dynoctl.plan.results import cluster_states
from dynoctl.probe.token import url_of
from dynoctl.remote.lock import is_dead
from dynoctl.show import json as show_json
from dynoctl.show import text
from dynoctl.show.figures import figures_lines
from dynoctl.show.terminal import Terminal

HEALTH_TIMEOUT_S = 5.0


def targets(typed: str | None, overrides: list[str]) -> int:
    """Where Prometheus finds every process; exit 1 where the cluster does not run."""
    terminal = Terminal(quiet=True)
    with opened(resolve(typed, overrides, as_applied=True), terminal) as session:
        observed = session.look()
        specs = cluster_units(session.target.topology, observed)
    name_unreachable(observed, terminal)
    terminal.result(show_json.targets(session.target.name, specs))
    return Exit.DONE if specs and not observed.failed else Exit.FAILED


def status(typed: str | None, overrides: list[str], *, json: bool) -> int:
    """Exit 0 when every role is up and the frontends serve, 1 otherwise."""
    terminal = Terminal(quiet=json)
    with opened(resolve(typed, overrides, as_applied=True), terminal) as session:
        healthy: set[tuple[str, str]] = set()
        observed = _without_dead(session.look(after=lambda seen: healthy.update(_healthy(session, seen))))
        specs = cluster_units(session.target.topology, observed)
        states = cluster_states(specs, observed)
    frontends = {(spec.node, spec.name) for spec in specs if "frontend" in spec.roles}
    serving = bool(frontends) and frontends <= healthy
    name = session.target.name
    well = bool(states) and serving and not observed.failed and all(state.climbed for state in states)
    if json:
        terminal.result(show_json.status(name, observed, states, specs, serving=serving))
        return Exit.DONE if well else Exit.FAILED
    name_unreachable(observed, terminal)
    for line in text.status_head(name, observed, states, serving=serving):
        terminal.result(line)
    if states:
        terminal.result(text.states_table(states, served=serving))
    if figures := cluster_figures(observed):
        terminal.result("")
        for line in figures_lines(figures):
            terminal.result(line)
    return Exit.DONE if well else Exit.FAILED


def _without_dead(observed: Observed) -> Observed:
    """The same without locks of a dynoctl that was killed on this machine: nobody is at work there."""
    nodes = {
        node: replace(seen, lock=None) if seen.lock is not None and is_dead(seen.lock.process) else seen
        for node, seen in observed.nodes.items()
    }
    return replace(observed, nodes=nodes)


def _healthy(session: Session, seen: NodeSeen) -> Iterator[tuple[str, str]]:
    """The frontends of a node that say that they could serve a request now."""
    programs = session.programs(Observed({seen.node: seen}))
    for spec in recorded_units(seen):
        if "frontend" not in spec.roles or not spec.listens or seen.node not in programs:
            continue
        request = {"method": "GET", "url": f"{url_of(spec)}/health", "timeout_s": HEALTH_TIMEOUT_S}
        try:
            answer = session.ask(programs, seen.node, "ask", request)
        except DynoctlError:
            continue
        if answer.get("ok") and answer["status"] == 200:
            yield seen.node, spec.name

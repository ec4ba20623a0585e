"""`dynoctl status`: every role, how far it is on the ladder, and whether the cluster serves."""

from __future__ import annotations

from dynoctl.cli.nodes import name_unreachable
from dynoctl.cli.session import Session, opened
from dynoctl.cli.target import resolve
from dynoctl.errors import DynoctlError, Exit
from dynoctl.plan.figures import cluster_figures
from dynoctl.plan.manifest import cluster_units
from dynoctl.plan.observed import Observed
from dynoctl.plan.results import cluster_states
from dynoctl.plan.steps import UnitSpec
from dynoctl.probe.token import url_of
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
        observed = session.look()
        specs = cluster_units(session.target.topology, observed)
        states = cluster_states(specs, observed)
        serving = _serving(session, observed, specs) if states else False
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


def _serving(session: Session, observed: Observed, specs: tuple[UnitSpec, ...]) -> bool:
    """Whether every frontend that is known says that it could serve a request now."""
    programs = session.programs(observed)
    frontends = [spec for spec in specs if "frontend" in spec.roles]

    def healthy(spec: UnitSpec) -> bool:
        if spec.node not in programs or not spec.listens:
            return False
        request = {"method": "GET", "url": f"{url_of(spec)}/health", "timeout_s": HEALTH_TIMEOUT_S}
        try:
            answer = session.ask(programs, spec.node, "ask", request)
        except DynoctlError:
            return False
        return bool(answer.get("ok")) and answer["status"] == 200

    return bool(frontends) and all(healthy(spec) for spec in frontends)

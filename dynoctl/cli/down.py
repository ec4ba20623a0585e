"""`dynoctl down`: drain, stop, and prove that nothing is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from dynoctl.cli import known
from dynoctl.cli.holding import locked
from dynoctl.cli.nodes import name_unreachable
from dynoctl.cli.session import Session, opened
from dynoctl.cli.target import resolve
from dynoctl.errors import Exit, Interrupted, LeftBehind
from dynoctl.plan.observed import Observed
from dynoctl.plan.results import StepResult
from dynoctl.plan.steps import Plan, ProveGone, StopUnit
from dynoctl.plan.teardown import teardown
from dynoctl.remote.execute import Events, execute
from dynoctl.show import json as show_json
from dynoctl.show import text
from dynoctl.show.live import Progress, progress
from dynoctl.show.terminal import Terminal


def down(typed: str | None, overrides: list[str], *, yes: bool, dry_run: bool, json: bool) -> int:
    """Take the cluster off its nodes. `yes` is accepted for scripts: typing `down` is the agreement."""
    terminal = Terminal(quiet=json)
    started = time.monotonic()
    with opened(resolve(typed, overrides, as_applied=True), terminal) as session:
        observed = session.look()
        name_unreachable(observed, terminal)
        plan = teardown(session.target.name, observed, session.artifacts.node_program)
        if dry_run:
            _show(plan, terminal, json=json)
            return Exit.DONE
        results: list[StepResult] = []
        if plan.steps:
            with progress(terminal) as shown:
                _carry_out(session, plan, observed, shown, results)
    _judge(session, plan, observed, results, terminal)
    known.forget(session.target.name)
    if json:
        terminal.result(show_json.teardown(plan, results))
    elif plan.steps:
        nodes = text.count(len({step.node for step in plan.steps}), "node")
        terminal.result(
            f"{plan.cluster} is down: nothing of it is left on {nodes} ({time.monotonic() - started:.1f} s)."
        )
    else:
        terminal.result(
            f"{plan.cluster} was not up: nothing of it is on {text.count(len(observed.nodes), 'node')}."
        )
    return Exit.DONE


def _show(plan: Plan, terminal: Terminal, *, json: bool) -> None:
    if json:
        terminal.result(show_json.plan(plan))
        return
    for line in text.plan_lines(plan):
        terminal.result(line)


def _carry_out(
    session: Session, plan: Plan, observed: Observed, shown: Progress, results: list[StepResult]
) -> None:
    """All phases, under the lock; a node that fails does not keep the others up."""
    means = session.means(observed)

    def on_step(step: Any, result: StepResult) -> None:
        shown.step(step, result)

    told: Callable[..., None] = on_step
    events = Events(on_phase=shown.phase, on_progress=shown.progress, on_step=told)
    try:
        with locked(session, observed, means, doing="dynoctl down"):
            results.extend(execute(plan, session.fleet, means, events, go_on=True))
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; the cluster may be half down",
            next=f"dynoctl down {session.target.name} goes on from here",
        ) from None


def _judge(
    session: Session, plan: Plan, observed: Observed, results: list[StepResult], terminal: Terminal
) -> None:
    """Raises LeftBehind where a step failed or a node was not asked: only what was proven counts as gone. A unit that
    did not stop in time and was ended by the proof is gone."""
    proofs = {(step.node, step.title) for step in plan.steps if isinstance(step, ProveGone)}
    proven = {result.node for result in results if not result.error and (result.node, result.title) in proofs}
    stops = {
        (step.node, step.title) for step in plan.steps if isinstance(step, StopUnit) and step.node in proven
    }
    failed = [result for result in results if result.error]
    for result in failed:
        if (result.node, result.title) in stops:
            terminal.warn(f"{result.error}; the proof ended it")
    left = [
        line
        for result in failed
        if result.error and (result.node, result.title) not in stops
        for line in (result.error, *(f"  {detail}" for detail in result.detail))
    ]
    unknown = [f"{node}: it did not answer, so what runs there is not known" for node in observed.failed]
    if left or unknown:
        raise LeftBehind(
            f"{plan.cluster} is not proven to be down",
            detail=[*left, *unknown],
            next=f"dynoctl down {session.target.name}",
        )

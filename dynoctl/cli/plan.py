"""`dynoctl plan`: what `up` would do, and why."""

from __future__ import annotations

from dynoctl.cli.planned import planned
from dynoctl.cli.session import opened
from dynoctl.cli.target import resolve
from dynoctl.errors import Exit
from dynoctl.plan.observed import Observed
from dynoctl.show import json as show_json
from dynoctl.show import text
from dynoctl.show.terminal import Terminal

CHANGES = 2  # as in terraform: with --detailed-exitcode, changes are pending


def plan(
    typed: str | None, overrides: list[str], *, offline: bool, json: bool, detailed_exitcode: bool = False
) -> int:
    """Show the plan; nothing is changed."""
    terminal = Terminal(quiet=json)
    with opened(resolve(typed, overrides), terminal) as session:
        found = session.plan_up(Observed({}), offline=True) if offline else planned(session)[1]
    for warning in found.warnings:
        terminal.warn(warning)
    if json:
        terminal.result(show_json.plan(found))
    else:
        for line in text.plan_lines(found):
            terminal.result(line)
        if offline:
            terminal.result("No node was asked: this is the plan for nodes that have nothing yet.")
    return CHANGES if detailed_exitcode and found.steps else Exit.DONE

"""`dynoctl logs`: the logs of all units, merged, each line behind the name of its unit."""

from __future__ import annotations

from typing import Any

from dynoctl.cli.nodes import name_unreachable
from dynoctl.cli.session import Session, opened
from dynoctl.cli.target import resolve
from dynoctl.errors import DynoctlError, Exit, UsageError
from dynoctl.plan.manifest import recorded_units
from dynoctl.plan.observed import NodeSeen, Observed
from dynoctl.remote import node_program
from dynoctl.remote.connection import Connection
from dynoctl.show import json as show_json
from dynoctl.show import text
from dynoctl.show.terminal import Terminal

FOLLOW_S = 7 * 24 * 3600.0
READ_S = 60.0


def logs(
    typed: str | None, overrides: list[str], role: str | None, *, lines: int, follow: bool, json: bool
) -> int:
    """Print what is asked for; with `follow`, go on until Ctrl-C."""
    terminal = Terminal()
    with opened(resolve(typed, overrides, as_applied=True), terminal) as session:
        observed = session.look()
        name_unreachable(observed, terminal)
        folders = _folders(session, observed, role)
        names = [f"{node}/{folder.rpartition('/')[2]}" for node, found in folders.items() for folder in found]
        width = max(map(len, names))
        programs = session.means(observed).programs | session.programs(observed)

        def read(connection: Connection) -> None:
            def on_answer(answer: dict[str, Any]) -> None:
                unit, line = f"{connection.node}/{answer['unit']}", str(answer["line"])
                terminal.result(
                    show_json.line({"unit": unit, "line": line}) if json else text.log_line(unit, line, width)
                )

            request = {"units": folders[connection.node], "lines": lines, "follow": follow}
            timeout_s = FOLLOW_S if follow else READ_S
            node_program.stream(
                connection,
                programs[connection.node],
                "logs",
                request,
                timeout_s=timeout_s,
                on_answer=on_answer,
            )

        _, errors = session.fleet.each(folders, read, all_at_once=follow)
    for error in errors.values():
        terminal.error(error)
    return Exit.FAILED if errors or observed.failed else Exit.DONE


def _folders(session: Session, observed: Observed, role: str | None) -> dict[str, list[str]]:
    """The unit folders to read, by node.

    Raises:
        UsageError: the cluster has no units, or none that `role` means.
    """
    cluster = session.target.name
    every = {(node, unit): _roles(seen, unit) for node, seen in observed.nodes.items() for unit in seen.units}
    if not every:
        if not observed.nodes:
            raise DynoctlError(f"{cluster}: no node could be asked for its logs")
        raise UsageError(
            f"{cluster} has no units on the nodes that answered", next=f"dynoctl status {cluster}"
        )
    found: dict[str, list[str]] = {}
    for (node, unit), roles in every.items():
        if role is None or role in (node, unit, f"{node}/{unit}", *roles):
            base = observed.nodes[node].base(cluster)
            found.setdefault(node, []).append(f"{base}/units/{unit}")
    if not found:
        names = sorted({name for roles in every.values() for name in roles})
        raise UsageError(
            f"{cluster} has no role, unit or node {role!r}", detail=[f"roles: {', '.join(names)}"]
        )
    return found


def _roles(seen: NodeSeen, unit: str) -> tuple[str, ...]:
    return next((spec.roles for spec in recorded_units(seen) if spec.name == unit), (unit,))

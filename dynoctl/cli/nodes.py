"""What to say of nodes that did not answer.

In: an observation. Out: one message a node; for verbs that need all of them, an error.
"""

from __future__ import annotations

from dynoctl.cli.session import Session
from dynoctl.errors import DynoctlError, NodeError
from dynoctl.plan.observed import Observed
from dynoctl.show.terminal import Terminal


def name_unreachable(observed: Observed, terminal: Terminal) -> None:
    """Say of each node that did not answer why, and go on."""
    for error in observed.failed.values():
        terminal.error(error)


def refuse_unreachable(session: Session, observed: Observed, *, yes: bool = False) -> None:
    """Say it, and end the verb: a cluster is not planned around a node that may be coming back. `yes` goes on without
    nodes that are not in the topology any more, with a warning.

    Raises:
        NodeError: the only node that did not answer.
        DynoctlError: several did not; each was named.
    """
    _let_go(session, observed, yes=yes)
    failed = {node: error for node, error in observed.failed.items() if node in session.machines}
    if not failed:
        return
    if len(failed) == 1:
        raise next(iter(failed.values()))
    for error in failed.values():
        session.terminal.error(error)
    raise DynoctlError(
        f"{len(failed)} of {len(session.machines)} nodes could not be asked; nothing was changed",
        next="mend them, or take them out of the topology",
    )


def _let_go(session: Session, observed: Observed, *, yes: bool) -> None:
    """Nodes that left the topology and cannot be asked: what runs there cannot be stopped. Raises NodeError."""
    for node, error in observed.failed.items():
        if node in session.machines:
            continue
        why = error.message.removeprefix(f"{node}: ")
        if not yes:
            raise NodeError(
                node,
                f"it is not in the topology any more, and what runs there cannot be stopped: {why}",
                next="bring it back until this is done, or forget it: the same with --yes",
            )
        session.former.pop(node, None)
        session.terminal.warn(f"{node} is forgotten with whatever runs there: {why}")

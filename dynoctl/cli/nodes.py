"""What to say of nodes that did not answer.

In: an observation. Out: one message a node; for verbs that need all of them, an error.
"""

from __future__ import annotations

from dynoctl.errors import DynoctlError
from dynoctl.plan.observed import Observed
from dynoctl.show.terminal import Terminal


def name_unreachable(observed: Observed, terminal: Terminal) -> None:
    """Say of each node that did not answer why, and go on."""
    for error in observed.failed.values():
        terminal.error(error)


def refuse_unreachable(observed: Observed, terminal: Terminal) -> None:
    """Say it, and end the verb: a cluster is not planned around a node that may be coming back.

    Raises:
        NodeError: the only node that did not answer.
        DynoctlError: several did not; each was named.
    """
    if not observed.failed:
        return
    if len(observed.failed) == 1:
        raise next(iter(observed.failed.values()))
    name_unreachable(observed, terminal)
    total = len(observed.failed) + len(observed.nodes)
    raise DynoctlError(
        f"{len(observed.failed)} of {total} nodes could not be asked; nothing was changed",
        next="mend them, or take them out of the topology",
    )

"""The cluster's lock, as the verbs that change something take it.

In: a session and what was observed. Out: a context. The lock is on the node of etcd, else of NATS, else on the first.
Where the file has another such node than the nodes know of, it is on both: nobody works by the old file meanwhile.
"""

from __future__ import annotations

import getpass
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from dynoctl.cli.session import Session, now
from dynoctl.errors import DynoctlError
from dynoctl.plan.observed import Observed
from dynoctl.remote.execute import Means
from dynoctl.remote.lock import Me, held, own_process

PUSH_TIMEOUT_S = 120.0


@contextmanager
def locked(session: Session, observed: Observed, means: Means, *, doing: str) -> Iterator[None]:
    """Hold the lock; the node program is brought to its node first, which changes nothing that serves.

    Raises:
        Locked: somebody else holds it.
        DynoctlError: somebody changed the cluster between our look and the lock; or the lock could not be kept.
    """
    me = Me(getpass.getuser(), socket.gethostname(), doing, now(), secrets.token_hex(8), own_process())
    nodes = _keepers(session, observed)
    lost = threading.Event()

    def on_lost() -> None:
        # Work under a lock that was lost would race with whoever has it now, so it ends as if Ctrl-C had been typed.
        # A true signal, since only that wakes a main thread that waits for the nodes.
        lost.set()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    try:
        with ExitStack() as locks:
            for node in nodes:
                locks.enter_context(_held_on(node, session, observed, means, me, on_lost))
            _refuse_stale(session, observed)
            yield
    except KeyboardInterrupt:
        if not lost.is_set():
            raise
        raise DynoctlError(
            f"the cluster's lock on {' and '.join(nodes)} could not be kept, so this run ended where it was",
            next=f"dynoctl status {session.target.name}",
        ) from None


def _keepers(session: Session, observed: Observed) -> list[str]:
    """The nodes that keep the lock: one, and while it moves two, in the same order whoever asks."""
    topology = session.target.topology
    recorded = session.newest(observed)
    now_meant = (topology.etcd.node, topology.nats.node, *topology.machines, *observed.nodes)
    before = (recorded.etcd.node, recorded.nats.node) if recorded else ()
    found = (_first(observed, now_meant), _first(observed, before))
    return sorted({node for node in found if node is not None})


def _first(observed: Observed, names: tuple[str | None, ...]) -> str | None:
    return next((name for name in names if name in observed.nodes), None)


def _held_on(
    node: str, session: Session, observed: Observed, means: Means, me: Me, on_lost: Callable[[], None]
) -> AbstractContextManager[None]:
    connection = session.fleet.connection(node)
    program = session.artifacts.node_program
    if program.place not in observed.nodes[node].have:
        connection.put(
            session.artifacts.content(program),
            means.programs[node],
            mode=program.mode,
            timeout_s=PUSH_TIMEOUT_S,
        )
    path = f"{observed.nodes[node].root}/locks/{session.target.name}"
    return held(connection, means.programs[node], path, me, lost=on_lost)


def _refuse_stale(session: Session, observed: Observed) -> None:
    """A plan is for what was seen: whoever changed the cluster since then wrote manifests. Raises DynoctlError."""
    now_seen = session.look_again(observed)
    changed = [
        node
        for node, seen in now_seen.nodes.items()
        if node in observed.nodes and seen.manifest != observed.nodes[node].manifest
    ]
    if changed:
        raise DynoctlError(
            f"somebody else changed {session.target.name} on {', '.join(changed)} while this run was planned; "
            "nothing was changed by this one",
            next="the same again: it looks and plans anew",
        )

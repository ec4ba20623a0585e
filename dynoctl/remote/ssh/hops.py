"""The way through bastions: one connection to each, shared by all nodes behind it.

In: a target with hops. Out: a link that ends at the target. A shared connection costs a bastion one log-in for any
number of nodes, so neither its MaxStartups nor a person's security key is asked twice; a bastion that is down is
waited for once and not once for each node behind it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

from dynoctl.errors import DynoctlError, NodeError, Unreachable
from dynoctl.remote.deadline import Patience
from dynoctl.remote.host_keys import HostKeys
from dynoctl.remote.ssh.connection import SshConnection
from dynoctl.remote.ssh.link import Link, connect
from dynoctl.remote.target import Target

COMMANDS = 8  # each ProxyCommand is a connection of its own, often through the same bastion
GIVE_UP_S = 30.0
ON_THE_WAY = "on the way to it, "


@dataclass(slots=True)
class _Hop:
    guard: threading.Lock = field(default_factory=threading.Lock)
    link: Link | None = None
    failure: DynoctlError | None = None
    failed_at: float = 0.0


class Hops:
    """Opens connections, directly or through hops that it keeps. Safe to use from many threads."""

    def __init__(self, keys: HostKeys, patience: Patience) -> None:
        self._keys = keys
        self._patience = patience
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._hops: dict[tuple[Target, ...], _Hop] = {}
        self._commands = threading.BoundedSemaphore(COMMANDS)

    def open(self, target: Target) -> SshConnection:
        """A connection to `target`. Raises NodeError, named after the target's node even where a hop failed."""
        through = self._through(target.node, target.hops)
        return SshConnection(self._connect(target, through))

    def close(self) -> None:
        """End the hops' connections and every wait for another try."""
        self._stop.set()
        with self._guard:
            hops = list(self._hops.values())
        for hop in hops:
            if hop.link is not None:
                hop.link.close()

    def _through(self, node: str, hops: tuple[Target, ...]) -> Link | None:
        """The link to the last of `hops`, made by way of the ones before it."""
        if not hops:
            return None
        with self._guard:
            hop = self._hops.setdefault(tuple(replace(each, node="") for each in hops), _Hop())
        with hop.guard:
            if hop.link is not None and hop.link.alive:
                return hop.link
            if hop.failure is not None and time.monotonic() - hop.failed_at < GIVE_UP_S:
                raise _for(node, hop.failure)
            try:
                hop.link = self._connect(hops[-1], self._through(node, hops[:-1]))
            except DynoctlError as error:
                hop.failure, hop.failed_at = error, time.monotonic()
                raise _for(node, error) from error
            return hop.link

    def _connect(self, target: Target, through: Link | None) -> Link:
        if self._stop.is_set():
            raise Unreachable(target.node, "the connections were closed")
        if through is None and target.proxy_command:
            with self._commands:
                return connect(target, self._keys, patience=self._patience, stop=self._stop)
        return connect(target, self._keys, through=through, patience=self._patience, stop=self._stop)


def _for(node: str, error: DynoctlError) -> DynoctlError:
    """A hop's failure, told of a node behind it."""
    if not isinstance(error, NodeError):
        return error
    message = error.message.removeprefix(f"{error.node}: ").removeprefix(ON_THE_WAY)
    return type(error)(node, f"{ON_THE_WAY}{message}", detail=error.detail, next=error.next)

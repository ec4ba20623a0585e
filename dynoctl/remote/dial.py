"""From a node's name to a Connection: this machine or SSH, dialled once and kept for the whole run.

In: the machines of a topology and the host keys of the cluster. Out: connections. paramiko is loaded here, and only
when the first node that is not `local` is dialled.

    with Connections(Dialler(machines, HostKeys(path, pin=True))) as connections:
        for node, outcome in over(names, lambda name: connections.to(name).run("true", timeout_s=10)):
            ...
"""

from __future__ import annotations

import getpass
import os
import threading
from collections import defaultdict
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from dynoctl.errors import Unreachable
from dynoctl.remote.connection import Connection
from dynoctl.remote.deadline import PATIENCE, Patience
from dynoctl.remote.host_keys import HostKeys
from dynoctl.remote.local import LocalConnection
from dynoctl.remote.ssh_config import SshConfig
from dynoctl.remote.target import Person, Target, resolve
from dynoctl.topology.machines import LOCAL, Ssh

if TYPE_CHECKING:
    from dynoctl.remote.ssh.hops import Hops


class Place(Protocol):
    """What is needed of a machine: its name, what SSH dials (or `local`), and how."""

    @property
    def name(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def ssh(self) -> Ssh: ...


class Dials(Protocol):
    """What makes connections: `Dialler`, and `FakeHosts` in tests."""

    def dial(self, node: str) -> Connection:
        """Connect to a node. Raises NodeError, UsageError."""

    def close(self) -> None:
        """End what the connections share."""


class Dialler:
    """Dials the machines of a topology. Safe to use from many threads."""

    def __init__(
        self,
        machines: Iterable[Place],
        keys: HostKeys,
        *,
        config: SshConfig | None = None,
        person: Person | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        """`config` and `person` are those of whoever runs dynoctl, unless given."""
        self._machines = {machine.name: machine for machine in machines}
        self._keys = keys
        self._config = config
        self._person = person
        self._patience = patience
        self._guard = threading.Lock()
        self._hops: Hops | None = None

    def know(self, machines: Iterable[Place]) -> None:
        """These can be dialled, too."""
        self._machines.update({machine.name: machine for machine in machines})

    def dial(self, node: str) -> Connection:
        """Connect to a node of the topology.

        Raises:
            Unreachable, AuthRefused, HostKeyChanged, HostKeyUnknown: the node, or a hop on the way to it.
            UsageError: the SSH config cannot be understood.
        """
        machine = self._machines[node]
        if machine.host == LOCAL:
            return LocalConnection(node)
        return self._ssh().open(self.target(node))

    def target(self, node: str) -> Target:
        """Where and how a node would be dialled, without dialling it. Raises UsageError."""
        machine = self._machines[node]
        with self._guard:
            self._config = self._config or SshConfig.read()
            self._person = self._person or Person(getpass.getuser(), os.environ.get("SSH_AUTH_SOCK"))
            return resolve(node, machine.host, machine.ssh, self._config, self._person)

    def close(self) -> None:
        """End the connections to hops, and all further tries."""
        with self._guard:
            if self._hops is not None:
                self._hops.close()

    def _ssh(self) -> Hops:
        from dynoctl.remote.ssh.hops import Hops

        with self._guard:
            self._hops = self._hops or Hops(self._keys, self._patience)
            return self._hops


class Connections:
    """One connection a node, made when it is first asked for, made anew when it broke, all closed together."""

    def __init__(self, dialler: Dials) -> None:
        self._dialler = dialler
        self._guard = threading.Lock()
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._open: dict[str, Connection] = {}
        self._closed = False

    def to(self, node: str) -> Connection:
        """The connection to a node. Raises what `dial` raises; Unreachable after `close`."""
        with self._guard:
            lock = self._locks[node]
        with lock:
            with self._guard:
                self._refuse_after_close(node)
                kept = self._open.get(node)
            if kept is not None and kept.alive:
                return kept
            if kept is not None:
                kept.close()
            made = self._dialler.dial(node)
            with self._guard:
                if not self._closed:
                    self._open[node] = made
                    return made
            made.close()
            raise Unreachable(node, "the connections were closed")

    def close(self) -> None:
        """End all connections: calls that are under way end with Unreachable. Calling it twice is fine."""
        with self._guard:
            self._closed = True
            kept, self._open = list(self._open.values()), {}
        for connection in kept:
            connection.close()
        self._dialler.close()

    def __enter__(self) -> Connections:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refuse_after_close(self, node: str) -> None:
        if self._closed:
            raise Unreachable(node, "the connections were closed")

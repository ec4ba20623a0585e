"""Fixtures for connections: real sshds on loopback, and ways to dial them without the real ~/.ssh."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dynoctl.remote.deadline import PATIENCE, Patience
from dynoctl.remote.dial import Connections, Dialler
from dynoctl.remote.host_keys import HostKeys, Pinned
from dynoctl.remote.ssh_config import SshConfig
from dynoctl.remote.ssh_lines import ConfigFile
from dynoctl.remote.target import Person
from dynoctl.topology.machines import Ssh
from tests.dynoctl.remote.sshd import Sshd, require_sshd


@dataclass(frozen=True)
class Machine:
    """As the topology gives it."""

    name: str
    host: str
    ssh: Ssh


@dataclass
class Reach:
    """Dials sshds as the nodes n1, n2, …; `pinned` are the keys that were pinned."""

    folder: Path
    pinned: list[Pinned]
    opened: list[Connections]

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def to_machines(
        self,
        *machines: Machine,
        pin: bool = True,
        config: str = "",
        agent: str | None = None,
        patience: Patience = PATIENCE,
    ) -> Connections:
        keys = HostKeys(self.known_hosts, pin=pin, on_pin=self.pinned.append)
        text = f"UserKnownHostsFile none\nGlobalKnownHostsFile none\n{config}"
        ssh_config = SshConfig([ConfigFile("config", text, str(self.folder))])
        dialler = Dialler(
            machines, keys, config=ssh_config, person=Person("nobody", agent), patience=patience
        )
        self.opened.append(Connections(dialler))
        return self.opened[-1]

    def to(
        self,
        *servers: Sshd,
        pin: bool = True,
        config: str = "",
        agent: str | None = None,
        patience: Patience = PATIENCE,
    ) -> Connections:
        machines = [machine(f"n{number}", server) for number, server in enumerate(servers, 1)]
        return self.to_machines(*machines, pin=pin, config=config, agent=agent, patience=patience)


def machine(name: str, server: Sshd, *, key: Path | None = None, timeout_s: float = 10.0) -> Machine:
    """A node that is this server."""
    settings = Ssh(
        user=server.user, port=server.port, key=str(key or server.client_key), connect_timeout_s=timeout_s
    )
    return Machine(name, "127.0.0.1", settings)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    """Starts sshds: `sshd()`, `sshd(MaxStartups="2")`. All are stopped after the test."""
    require_sshd()
    started: list[Sshd] = []

    def start(**settings: str) -> Sshd:
        server = Sshd(tmp_path / f"sshd{len(started) + 1}", settings=settings)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def reach(tmp_path: Path) -> Iterator[Reach]:
    """Connections to sshds, closed after the test."""
    made = Reach(tmp_path, [], [])
    yield made
    for connections in made.opened:
        connections.close()

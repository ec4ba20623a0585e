"""What peers dial: numbers for names, once, and the same for every node."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from dynoctl.errors import NodeError, Unreachable
from dynoctl.remote.addresses import addresses
from dynoctl.remote.dial import Dialler
from dynoctl.remote.host_keys import HostKeys
from dynoctl.remote.ssh_config import SshConfig
from dynoctl.remote.ssh_lines import ConfigFile
from dynoctl.remote.target import Person
from tests.dynoctl.plan.world import ONE, TWO, topology

KNOWN = {"alpha.lan": "192.0.2.7", "beta": "192.0.2.8"}


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A name server of our own; what was asked of it."""
    asked: list[str] = []

    def getaddrinfo(name: str, *_: Any) -> list[Any]:
        asked.append(name)
        if name not in KNOWN:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (KNOWN[name], 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def found(nodes: str, *, config: str = "", look_up: bool = True) -> dict[str, str]:
    text = TWO.replace("{n1: {host: 10.0.0.1}, n2: {host: 10.0.0.2}}", nodes)
    machines = topology(text).machines
    ssh_config = SshConfig([ConfigFile("config", config, "/")])
    keys = HostKeys(Path("/none"), pin=False, on_pin=lambda pinned: None)
    dialler = Dialler(machines.values(), keys, config=ssh_config, person=Person("u", None))
    try:
        return addresses(machines, dialler, look_up=look_up)
    finally:
        dialler.close()


def test_numbers_stay_and_nobody_is_asked(names: list[str]) -> None:
    assert found("{n1: {host: 10.0.0.1}, n2: {host: 10.0.0.2}}") == {"n1": "10.0.0.1", "n2": "10.0.0.2"}
    assert names == []


def test_names_become_numbers() -> None:
    assert found("{n1: {host: alpha.lan}, n2: {host: beta}}") == {"n1": "192.0.2.7", "n2": "192.0.2.8"}


def test_an_alias_of_the_ssh_config_means_what_ssh_dials() -> None:
    config = "Host gpu*\n  HostName beta\nHost other\n  HostName 192.0.2.99\n"
    assert found("{n1: {host: gpu1}, n2: {host: other}}", config=config) == {
        "n1": "192.0.2.8",
        "n2": "192.0.2.99",
    }


def test_an_address_for_the_peers_is_taken_instead_of_what_ssh_dials() -> None:
    config = "Host gpu1\n  HostName bastion\n"
    nodes = "{n1: {host: gpu1, address: 10.1.0.1}, n2: {host: beta, address: alpha.lan}}"
    assert found(nodes, config=config) == {"n1": "10.1.0.1", "n2": "192.0.2.7"}


def test_offline_a_name_stays_a_name(names: list[str]) -> None:
    assert found("{n1: {host: alpha.lan}, n2: {host: 10.0.0.2}}", look_up=False) == {
        "n1": "alpha.lan",
        "n2": "10.0.0.2",
    }
    assert names == []


def test_this_machine_is_its_loopback() -> None:
    machines = topology(ONE).machines
    dialler = Dialler(machines.values(), HostKeys(Path("/none"), pin=False, on_pin=lambda pinned: None))
    assert addresses(machines, dialler) == {"local": "127.0.0.1"}
    dialler.close()


def test_a_name_without_an_address_is_named_the_first_of_them() -> None:
    with pytest.raises(Unreachable) as caught:
        found("{n1: {host: nowhere}, n2: {host: nowhere-else}}")
    assert str(caught.value) == "n1: nowhere has no address (Name or service not known)"
    assert caught.value.next == "name an address that the other nodes can dial: nodes.n1.address"


def test_an_alias_that_leads_to_ipv6_is_refused() -> None:
    with pytest.raises(NodeError) as caught:
        found("{n1: {host: gpu1}, n2: {host: beta}}", config="Host gpu1\n  HostName 2001:db8::1\n")
    assert str(caught.value) == (
        "n1: SSH dials 2001:db8::1, an IPv6 address, and the nodes dial each other by IPv4"
    )
    assert caught.value.next == "name an IPv4 address of the node: nodes.n1.address"

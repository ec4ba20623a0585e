"""Rules on nodes: each is a machine of its own, and all of them can reach each other.

In: a topology. Out: findings.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from dynoctl.topology.finding import Finding
from dynoctl.topology.machines import LOCAL, SshOverride
from dynoctl.topology.model import Topology
from dynoctl.topology.placement import Machine


def same_machine(topology: Topology) -> Iterator[Finding]:
    """Two names for one machine would start two of everything on the same ports."""
    seen: dict[tuple[str, int], str] = {}
    for machine in topology.machines.values():
        first = seen.setdefault(_dialled(machine), machine.name)
        if first == machine.name:
            continue
        what = "this machine" if machine.is_local else f"{machine.host}, SSH port {machine.ssh.port or 22}"
        yield Finding(
            ("nodes", machine.name, "host"),
            f"is {what}, as node '{first}' is",
            "use one node, with `replicas` or a list of maps for more units of a role",
            rests_on=(
                ("nodes", first, "host"),
                ("nodes", first, "ssh", "port"),
                ("nodes", machine.name, "ssh", "port"),
            ),
        )


def same_address(topology: Topology) -> Iterator[Finding]:
    """Behind two SSH ports there may be two machines, but peers tell them apart by address."""
    dialled: set[tuple[str, int]] = set()
    seen: dict[str, str] = {}
    for machine in topology.machines.values():
        again = _dialled(machine) in dialled
        dialled.add(_dialled(machine))
        first = seen.setdefault(machine.address, machine.name)
        if first != machine.name and not again:
            yield Finding(
                ("nodes", machine.name, "address"),
                f"the other nodes dial {machine.address} for node '{first}' already",
                "give each node its own `address`",
                rests_on=(("nodes", first, "host"), ("nodes", first, "address")),
            )


def _dialled(machine: Machine) -> tuple[str, int]:
    return machine.host, 0 if machine.is_local else machine.ssh.port or 22


def reachable(topology: Topology) -> Iterator[Finding]:
    """What peers dial leads to the node from every other node, too."""
    several = len({_dialled(machine) for machine in topology.machines.values()}) > 1
    loopback = {name: is_loopback(machine.address) for name, machine in topology.machines.items()}
    hosts = tuple(("nodes", name, key) for name in topology.nodes for key in ("host", "address"))
    for name, machine in topology.machines.items():
        node = topology.nodes.get(name)
        here = ("nodes", name, "address" if node and node.address else "host")
        if machine.address == LOCAL or _is_unspecified(machine.address):
            yield Finding(here, f"no other node can dial {machine.address}")
        elif several and machine.is_local and node and not node.address:
            yield Finding(
                ("nodes", name),
                "the other nodes cannot dial 'local'",
                "add `address:`, the address of this machine that they reach",
                at_key=True,
                rests_on=hosts,
            )
        elif loopback[name] and not all(loopback.values()):
            message = f"{machine.address} leads every other node to itself"
            yield Finding(here, message, "add `address:`", rests_on=hosts)


def ipv4(topology: Topology) -> Iterator[Finding]:
    """SSH may go over IPv6; what the nodes say to each other does not yet."""
    for name, machine in topology.machines.items():
        if is_ipv6(machine.address):
            node = topology.nodes.get(name)
            key = "address" if node and node.address else "host"
            way = (
                "write an IPv4 address" if key == "address" else "add `address:`, an IPv4 address of the node"
            )
            yield Finding(
                ("nodes", name, key),
                f"{machine.address} is an IPv6 address, and the nodes dial each other by IPv4",
                way,
            )


def is_ipv6(host: str) -> bool:
    """Whether this is an address of IPv6, with or without a zone."""
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether a machine that dials `host` reaches itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def ssh_on_local(topology: Topology) -> Iterator[Finding]:
    """Settings without effect are refused."""
    for name, node in topology.nodes.items():
        if node.host == LOCAL and node.ssh != SshOverride():
            yield Finding(("nodes", name, "ssh"), "this machine is used without SSH", at_key=True)

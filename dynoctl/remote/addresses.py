"""What peers dial: the topology's address of each node, as a number where it is a name.

In: the machines of a topology, and how SSH would reach them. Out: an IP address a node. etcd binds addresses and not
names, and every node must mean the same by an address, so names are looked up once, here.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping

from dynoctl.errors import DynoctlError, NodeError, Unreachable
from dynoctl.remote.dial import Dialler
from dynoctl.remote.window import over
from dynoctl.topology.placement import Machine


def addresses(machines: Mapping[str, Machine], dialler: Dialler, *, look_up: bool = True) -> dict[str, str]:
    """The address of each node; offline (`look_up` false) a name stays a name.

    Raises:
        Unreachable: a name has no address; of several, the first in the file.
        NodeError: SSH dials an address of IPv6.
        UsageError: the SSH config cannot be understood.
    """
    # A host may be an alias of ~/.ssh/config; peers have no such file, so they get what SSH would dial.
    found = {
        name: dialler.target(name).hostname if _is_alias(machine) else machine.address
        for name, machine in machines.items()
    }
    if not look_up:
        return found
    # Side by side, because a name server that is away takes its seconds for each name.
    answers = dict(over(found, lambda node: _number(node, found[node])))
    for node in found:
        answer = answers[node]
        if isinstance(answer, DynoctlError):
            raise answer
        found[node] = answer
    return found


def _is_alias(machine: Machine) -> bool:
    return machine.address == machine.host and not machine.is_local


def _number(node: str, text: str) -> str:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        found = None
    if found is not None and found.version == 6:  # the HostName of an alias: the topology's own are checked
        raise NodeError(
            node,
            f"SSH dials {text}, an IPv6 address, and the nodes dial each other by IPv4",
            next=f"name an IPv4 address of the node: nodes.{node}.address",
        )
    if found is not None:
        return str(found)
    try:
        entries = socket.getaddrinfo(text, None, socket.AF_INET, socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise Unreachable(
            node,
            f"{text} has no address ({error.strerror})",
            next=f"name an address that the other nodes can dial: nodes.{node}.address",
        ) from error
    return str(entries[0][4][0])

"""The network of a lab: a bridge in a namespace of its own, and one cable to this machine.

In: the network namespace of whoever made the lab. Out: a subnet that is free there, cables to hosts.
Everything here ends with the controller: the kernel removes the links of a namespace without processes.
"""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterable, Iterator

from tests.lab.errors import LabError

BRIDGE = "switch"
UPLINK = "uplink"
PREFIX_BITS = 24
HERE = 254  # last octet of this machine's own address
COMMAND_TIMEOUT_S = 30


def ip(*words: str, inside: int | None = None, batch: str | None = None) -> str:
    """Run `ip` and give its output; `inside` is a file descriptor of a network namespace."""
    enter = [] if inside is None else ["nsenter", f"--net=/proc/self/fd/{inside}", "--"]
    done = subprocess.run(
        [*enter, "ip", *words],
        input=batch,
        capture_output=True,
        text=True,
        pass_fds=() if inside is None else (inside,),
        timeout=COMMAND_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise LabError(f"ip {' '.join(words)} failed: {done.stderr.strip()}")
    return done.stdout


def candidates() -> Iterator[tuple[int, ipaddress.IPv4Network]]:
    """Subnets to try, each with the number that names its cable."""
    for number in range(256):
        yield number, ipaddress.IPv4Network(f"10.77.{number}.0/{PREFIX_BITS}")
    for number in range(256):
        yield 256 + number, ipaddress.IPv4Network(f"198.18.{number}.0/{PREFIX_BITS}")


def routed(routes: str) -> list[ipaddress.IPv4Network]:
    """The networks that `ip -j route show table all` names, without the default route."""
    found = []
    for route in json.loads(routes or "[]"):
        destination = route["dst"]
        if destination not in ("default", "0.0.0.0/0"):
            found.append(ipaddress.IPv4Network(destination, strict=False))
    return found


class Switch:
    """The bridge and the cable to the outside. `outside` is a descriptor of the maker's network namespace."""

    def __init__(self, outside: int) -> None:
        self._outside = outside
        self.cable = ""
        self.subnet = ipaddress.IPv4Network("10.77.0.0/24")

    @property
    def here(self) -> str:
        """This machine's address as the hosts see it."""
        return str(self.subnet[HERE])

    def address(self, index: int) -> str:
        """The address of host number `index`, counted from 1."""
        return str(self.subnet[index])

    def mac(self, index: int) -> str:
        """A fixed hardware address, so that peers need not forget it after a power cycle."""
        third = self.subnet.network_address.packed[2]
        return f"02:77:00:00:{third:02x}:{index:02x}"

    def build(self) -> None:
        """Make the bridge and the cable to the outside, on the first subnet that is free there."""
        ip("link", "set", "lo", "up")
        ip("link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
        self._plug_uplink()
        third = self.mac(HERE)
        ip("link", "set", self.cable, "address", third, "up", inside=self._outside)
        ip("addr", "add", f"{self.here}/{PREFIX_BITS}", "dev", self.cable, inside=self._outside)
        ip("link", "set", UPLINK, "master", BRIDGE, "up")
        ip("link", "set", BRIDGE, "up")

    def _plug_uplink(self) -> None:
        taken = routed(ip("-j", "-4", "route", "show", "table", "all", inside=self._outside))
        for number, subnet in candidates():
            if any(subnet.overlaps(network) for network in taken):
                continue
            cable = f"dynolab{number}"
            try:
                peer = ("peer", "name", UPLINK, "netns", str(os.getpid()))
                ip("link", "add", cable, "type", "veth", *peer, inside=self._outside)
            except LabError as error:
                # The name of the cable is the lock on its subnet: another lab was faster.
                if "File exists" in str(error):
                    continue
                raise
            self.cable, self.subnet = cable, subnet
            return
        raise LabError("no subnet in 10.77.0.0/16 or 198.18.0.0/16 is free on this machine")

    def plug(self, hosts: Iterable[tuple[str, int, int]]) -> None:
        """Give hosts their eth0: an iterable of (name, index, process id of the host's init)."""
        lines = []
        for name, index, pid in hosts:
            mac = self.mac(index)
            lines.append(f"link add {name} type veth peer name eth0 address {mac} netns {pid}")
            lines.append(f"link set {name} master {BRIDGE} up")
        ip("-batch", "-", batch="".join(f"{line}\n" for line in lines))

    def unplug(self, name: str) -> None:
        """Remove a host's cable, if it is there. At power-off it goes first: no goodbye reaches the peers."""
        try:
            ip("link", "del", name)
        except LabError as error:
            if "Cannot find device" not in str(error):  # gone with a host that powered itself off
                raise

    def close(self) -> None:
        """Remove the cable to the outside now; the kernel would do it a little later."""
        ip("link", "del", UPLINK)

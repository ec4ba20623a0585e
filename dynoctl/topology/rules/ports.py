"""Rules on TCP ports: what the file itself books on a node is booked once.

In: a topology. Out: findings. Ports that dynoctl chooses are chosen later, around these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dynoctl.topology.document import Path
from dynoctl.topology.finding import Finding
from dynoctl.topology.model import Topology

MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class _Booking:
    node: str
    port: int
    path: Path
    who: str


def _bookings(topology: Topology) -> Iterator[_Booking]:
    for name, service in (("etcd", topology.etcd), ("nats", topology.nats)):
        if service.node is not None and service.port is not None:
            yield _Booking(service.node, service.port, ("services", name, "port"), name)
    for placement in topology.placements:
        who = f"{placement.role}-{placement.index}"
        if placement.port is not None:
            yield _Booking(placement.node, placement.port, (*placement.path, "port"), who)
        if placement.stream_port is not None:
            yield _Booking(placement.node, placement.stream_port, (*placement.path, "stream_port"), who)


def taken_once(topology: Topology) -> Iterator[Finding]:
    """No two on one node want the same port."""
    seen: dict[tuple[str, int], _Booking] = {}
    for booking in _bookings(topology):
        first = seen.setdefault((booking.node, booking.port), booking)
        if booking.port > MAX_PORT:
            yield Finding(booking.path, f"{booking.who} on {booking.node} would need port {booking.port}")
        elif first.path != booking.path:  # the workers of one frontend share its port
            message = (
                f"{booking.who} on {booking.node} takes port {booking.port}, which {first.who} takes already"
            )
            yield Finding(booking.path, message, "one of them needs another port", rests_on=(first.path,))


def one_stream_port(topology: Topology) -> Iterator[Finding]:
    """Roles that share a process share its port."""
    for process in topology.processes:
        with_port = [placement for placement in process.placements if placement.stream_port is not None]
        for placement in with_port[1:]:
            yield Finding(
                (*placement.path, "stream_port"),
                f"shares a process with {with_port[0].role}, which has a stream_port already",
                "remove one of them, or set roles.fused: false",
                at_key=True,
            )

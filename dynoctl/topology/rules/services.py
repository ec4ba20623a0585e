"""Rules on etcd and NATS: started somewhere, or reached at an address that every node can dial.

In: a topology. Out: findings.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from dynoctl.topology.document import Path
from dynoctl.topology.finding import Finding
from dynoctl.topology.hints import one_of
from dynoctl.topology.model import Topology
from dynoctl.topology.placement import only_node
from dynoctl.topology.rules.machines import is_ipv6, is_loopback
from dynoctl.topology.secret import Url
from dynoctl.topology.services import Etcd, Nats

SCHEMES = {"etcd": ("http",), "nats": ("nats", "tls")}


def _services(topology: Topology) -> Iterator[tuple[str, Etcd | Nats]]:
    yield "etcd", topology.services.etcd
    yield "nats", topology.services.nats


def _urls(topology: Topology) -> Iterator[tuple[str, Path, Url]]:
    for index, url in enumerate(topology.services.etcd.url):
        yield "etcd", ("services", "etcd", "url", index), url
    if topology.services.nats.url is not None:
        yield "nats", ("services", "nats", "url"), topology.services.nats.url


def one_source(topology: Topology) -> Iterator[Finding]:
    """What runs already is not started, so nothing says how to start it."""
    for name, service in _services(topology):
        for key in ("node", "port", "binary"):
            if service.url and getattr(service, key) is not None:
                message = f"says how to start {name}, and `url` says that it runs already; keep one of them"
                yield Finding(("services", name, key), message, at_key=True)


def some_source(topology: Topology) -> Iterator[Finding]:
    """With more than one node, a service is put nowhere by guessing."""
    for name, service in _services(topology):
        if service.node is None and not service.url and only_node(topology) is None:
            nodes = one_of(tuple(topology.machines))
            message = "needs a node to start on, as there is more than one, or the url of one that runs"
            yield Finding(("services", name), message, f"add `{name}: {nodes}` to `services`", at_key=True)


def schemes(topology: Topology) -> Iterator[Finding]:
    """An address begins as its service's do, and can be taken apart."""
    for name, path, url in _urls(topology):
        wanted = one_of([f"{scheme}://" for scheme in SCHEMES[name]])
        try:
            parts = urlsplit(url.reveal())
            whole = parts.scheme in SCHEMES[name] and bool(parts.hostname) and parts.port != 0
        except ValueError:
            whole = False
        if name == "etcd" and url.reveal().startswith("https://"):
            yield Finding(path, "etcd is spoken to without TLS so far", "write an http:// address of it")
        elif not whole:
            yield Finding(path, f"an address of {name} is {wanted}, a host, and a port from 1 to 65535")


def reachable(topology: Topology) -> Iterator[Finding]:
    """An address is the same service from every node."""
    here = all(machine.is_local for machine in topology.machines.values())
    for _, path, url in _urls(topology):
        try:
            host = urlsplit(url.reveal()).hostname or ""
        except ValueError:
            continue
        if is_ipv6(host):
            yield Finding(path, f"{host} is an IPv6 address", "write one of IPv4, or a name that has one")
        elif is_loopback(host) and not here:
            yield Finding(
                path, f"{host} leads every node to itself", "write the address that all nodes reach"
            )

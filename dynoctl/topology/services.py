"""The two services that the roles meet through: etcd and NATS, started by dynoctl or running already.

In: nothing. Out: frozen models, one a section of the file; the descriptions are the reference.
"""

from typing import Annotated

from msgspec import Meta

from dynoctl.topology.part import NODE_OR_MAP, ONE_OR_MORE, Part
from dynoctl.topology.scalars import Label, Path, Port
from dynoctl.topology.secret import Url

_NODE = "The node to start it on; with one node in the file, that one."


class Etcd(Part, frozen=True):
    """The etcd to use: a node to start one on, or the address of one that runs."""

    node: Annotated[Label | None, Meta(description=_NODE)] = None
    port: Annotated[
        Port | None, Meta(description="TCP port for clients; where absent, the first free one from 2379 on.")
    ] = None
    binary: Annotated[
        Path | None, Meta(description="The etcd program on the node; else the one on its PATH.")
    ] = None
    url: Annotated[
        tuple[Url, ...],
        ONE_OR_MORE,
        Meta(description="`http://` address of an etcd that runs already; or a list of them."),
    ] = ()


class Nats(Part, frozen=True):
    """The NATS to use, with JetStream: a node to start one on, or the address of one that runs."""

    node: Annotated[Label | None, Meta(description=_NODE)] = None
    port: Annotated[
        Port | None, Meta(description="TCP port for clients; where absent, the first free one from 4222 on.")
    ] = None
    binary: Annotated[
        Path | None, Meta(description="The nats-server program on the node; else dynoctl brings its own.")
    ] = None
    url: Annotated[
        Url | None, Meta(description="`nats://` or `tls://` address of a NATS that runs already.")
    ] = None


class Services(Part, frozen=True):
    """The services of the cluster."""

    etcd: Annotated[
        Etcd, NODE_OR_MAP, Meta(description="Where instances are registered: a node's name, or a map.")
    ] = Etcd()
    nats: Annotated[
        Nats, NODE_OR_MAP, Meta(description="Prefill queue and events: a node's name, or a map.")
    ] = Nats()

"""The two services that the roles meet through: etcd and NATS, started by dynoctl or running already.

In: plain values, a node's name for short. Out: frozen models.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from dynoctl.topology.part import Part, listed
from dynoctl.topology.scalars import Label, Path, Port
from dynoctl.topology.secret import UrlText


class Etcd(Part):
    """The etcd to use: a node to start one on, or the address of one that runs."""

    node: Label | None = Field(
        default=None, description="The node to start it on; with one node in the file, that one."
    )
    port: Port = Field(default=2379, description="The TCP port for clients.")
    peer_port: Port = Field(default=2380, description="The TCP port for other members of etcd.")
    binary: Path | None = Field(
        default=None, description="The etcd program on the node; else the one on its PATH."
    )
    url: Annotated[
        tuple[UrlText, ...], BeforeValidator(listed, json_schema_input_type=UrlText | tuple[UrlText, ...])
    ] = Field(
        default=(), description="http:// or https:// address, or several, of an etcd that runs already."
    )


class Nats(Part):
    """The NATS to use, with JetStream: a node to start one on, or the address of one that runs."""

    node: Label | None = Field(
        default=None, description="The node to start it on; with one node in the file, that one."
    )
    port: Port = Field(default=4222, description="The TCP port for clients.")
    binary: Path | None = Field(
        default=None, description="The nats-server program on the node; else dynoctl sends its own."
    )
    url: Annotated[tuple[UrlText, ...], BeforeValidator(listed, json_schema_input_type=UrlText)] = Field(
        default=(), max_length=1, description="nats:// or tls:// address of a NATS that runs already."
    )


def _node_for_short(value: object) -> object:
    return {"node": value} if isinstance(value, str) else value


class Services(Part):
    """The services of the cluster."""

    etcd: Annotated[Etcd, BeforeValidator(_node_for_short, json_schema_input_type=Label | Etcd)] = Field(
        default_factory=Etcd.model_construct,
        description="Where instances are registered: a node's name, or a map.",
    )
    nats: Annotated[Nats, BeforeValidator(_node_for_short, json_schema_input_type=Label | Nats)] = Field(
        default_factory=Nats.model_construct,
        description="The prefill queue and events: a node's name, or a map.",
    )

"""From the settings to the real transport, store and queue."""

from __future__ import annotations

from collections.abc import Callable

from dyno_runtime.bus.etcd import EtcdStore
from dyno_runtime.bus.nats import NatsQueue
from dyno_runtime.bus.stream import StreamTransport
from dyno_runtime.settings import ProcessSettings
from dyno_runtime.wire.messages import Address, LeaseId


def own_address(settings: ProcessSettings) -> Address:
    """Where this process listens, as its peers know it."""
    return Address(settings.stream.host, settings.stream.port)


def make_transport(settings: ProcessSettings, lease: LeaseId) -> StreamTransport:
    """Not listening yet."""
    return StreamTransport(settings.cluster, lease, own_address(settings))


def make_store(settings: ProcessSettings) -> EtcdStore:
    """Not connected yet. Raises Refused on a URL that cannot be used."""
    return EtcdStore(settings.services.etcd)


def make_queue(settings: ProcessSettings, changed: Callable[[], None]) -> NatsQueue:
    """Not connected yet."""
    return NatsQueue(settings.cluster, settings.model.name, settings.services.nats, changed)

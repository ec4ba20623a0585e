"""The names that the runtime uses outside a process: etcd keys, the NATS stream, its subject and consumer.

Spelled here only. A cluster's name is a DNS label, so it needs no quoting in any of them.
"""

from __future__ import annotations

from typing import cast

from dyno_runtime.wire.messages import LeaseId, Role

PREFILL_CONSUMER = "prefill"


def cluster_prefix(cluster: str) -> str:
    """Everything of a cluster in etcd starts with this."""
    return f"/{cluster}/"


def instances_prefix(cluster: str) -> str:
    """All instances of all roles."""
    return f"/{cluster}/instances/"


def instance_key(cluster: str, role: Role, lease: LeaseId) -> str:
    """One instance; the key dies with its lease."""
    return f"/{cluster}/instances/{role}/{lease}"


def split_instance_key(key: str) -> tuple[Role, LeaseId]:
    """The role and the lease of an `instance_key`."""
    role, lease = key.rsplit("/", 2)[1:]
    return cast(Role, role), lease


def prefill_stream(cluster: str) -> str:
    """The JetStream work queue for prefill."""
    return f"{cluster}_prefill"


def prefill_subject(cluster: str) -> str:
    """Where prefill tasks are published."""
    return f"{cluster}.prefill"


def lease_id(number: int) -> LeaseId:
    """The lease number of etcd as its users spell it, 16 hex digits."""
    return f"{number:016x}"


def lease_number(lease: LeaseId) -> int:
    """The number that etcd knows the lease by."""
    return int(lease, 16)

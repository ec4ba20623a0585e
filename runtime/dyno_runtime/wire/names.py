"""The names that the runtime uses outside a process: etcd keys, the NATS stream, its subjects and consumers.

Spelled here only. A cluster's name is a DNS label, so it needs no quoting in any of them.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Literal, cast
from urllib.parse import quote, unquote

from dyno_runtime.wire.messages import LeaseId, Role

ConfigKind = Literal["disagg", "routing"]


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


def models_prefix(cluster: str) -> str:
    """All further names of models."""
    return f"/{cluster}/models/"


def model_key(cluster: str, name: str) -> str:
    """One further name of a model. Names may have slashes, so they are quoted as in a URL."""
    return models_prefix(cluster) + quote(name, safe="")


def split_model_key(key: str) -> str:
    """The name in a `model_key`; one that somebody did not quote is understood, too."""
    return unquote(key.split("/", 3)[3])


def config_prefix(cluster: str) -> str:
    """What may be changed while the cluster runs."""
    return f"/{cluster}/config/"


def config_key(cluster: str, kind: ConfigKind, model: str) -> str:
    """What may be changed of one model: where its prefill runs, how it is routed."""
    return f"/{cluster}/config/{kind}/{quote(model, safe='')}"


def split_config_key(key: str) -> tuple[str, str]:
    """The kind and the model of a `config_key`; the kind may be one that does not exist."""
    kind, _, model = key.split("/", 3)[3].partition("/")
    return kind, unquote(model)


def decision_key(cluster: str, wall_ms: int) -> str:
    """A decision of the planner; keys are in the order of time."""
    return f"/{cluster}/planner/decisions/{wall_ms:015d}"


def prefill_stream(cluster: str) -> str:
    """The JetStream work queue for prefill, of all models."""
    return f"{cluster}_prefill"


def prefill_subjects(cluster: str) -> str:
    """Where the prefill tasks of any model are published."""
    return f"{cluster}.prefill.*"


def prefill_subject(cluster: str, model: str) -> str:
    """Where the prefill tasks of a model are published."""
    return f"{cluster}.prefill.{prefill_consumer(model)}"


def prefill_consumer(model: str) -> str:
    """The one that the prefill workers of a model pull from. A model's name may have what a name in NATS may not, so
    it is what may stand there of it, for people, and a digest of the whole."""
    return f"{re.sub('[^A-Za-z0-9_-]', '_', model)[:48]}-{sha256(model.encode()).hexdigest()[:8]}"


def lease_id(number: int) -> LeaseId:
    """The lease number of etcd as its users spell it, 16 hex digits."""
    return f"{number:016x}"


def lease_number(lease: LeaseId) -> int:
    """The number that etcd knows the lease by."""
    return int(lease, 16)

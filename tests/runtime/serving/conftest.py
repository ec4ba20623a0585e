"""A cluster of mock engines for each test, on the session's servers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyno_runtime.settings import Engine, Model, Routing
from tests.runtime.cluster import Cluster
from tests.servers import Etcd, Nats

_numbers = itertools.count()


@pytest.fixture
def mocks(etcd: Etcd, nats: Nats, tmp_path: Path) -> Iterator[Cluster]:
    """Each has a name of its own, and is stopped whatever happens."""
    one = Cluster(
        etcd.url,
        nats.url,
        tmp_path,
        name=f"mock-{next(_numbers)}",
        routing=Routing("kv"),
        engine=Engine("mock", block_size=16, max_model_len=4096, args={"speedup": 50}),
        model=Model("mock-model"),
    )
    yield one
    one.close()

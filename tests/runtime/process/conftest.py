"""A fresh cluster of processes for each test, on the session's servers or on servers of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.cluster import Cluster
from tests.servers import Etcd, Nats

_numbers = itertools.count()


@pytest.fixture
def cluster(etcd: Etcd, nats: Nats, tmp_path: Path) -> Iterator[Cluster]:
    """On servers that keep running; each cluster has a name of its own."""
    one = Cluster(etcd.url, nats.url, tmp_path, name=f"hello-{next(_numbers)}")
    yield one
    one.close()


@pytest.fixture
def frail(own_etcd: Etcd, own_nats: Nats, tmp_path: Path) -> Iterator[Cluster]:
    """On servers that the test may kill."""
    one = Cluster(own_etcd.url, own_nats.url, tmp_path)
    yield one
    one.close()

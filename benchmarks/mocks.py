"""A cluster of mock engines on this machine, without SSH: etcd, NATS, and one process for each unit.

In: how many decode workers, the engine's args, a model folder or none. Out: a URL and the pids by unit.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyno_runtime.settings import Disagg, Engine, Model, Routing
from tests.runtime.cluster import Cluster
from tests.runtime.serving.client import chat
from tests.servers import Etcd, Nats

MODEL = "mock-model"


@dataclass
class Mocks:
    """What runs. `pids` by the unit's name; all roles but workers are in `frontend-0`."""

    url: str
    pids: dict[str, int]


@contextlib.contextmanager
def mocks(
    workers: int, args: dict[str, Any], model: str | None, block_size: int = 16, **front: Any
) -> Iterator[Mocks]:
    """Runs while the context is open; everything is stopped by pid."""
    with tempfile.TemporaryDirectory() as folder:
        etcd, nats = Etcd(Path(folder) / "etcd"), Nats(Path(folder) / "nats")
        cluster: Cluster | None = None
        try:
            etcd.start()
            nats.start()
            cluster = Cluster(
                etcd.url,
                nats.url,
                Path(folder),
                name="bench",
                disagg=Disagg(),
                routing=Routing("kv"),
                engine=Engine("mock", block_size=block_size, max_model_len=32768, args=args),
                model=Model(MODEL, model),
            )
            unit = cluster.add("node1", "frontend", "processor", "router", **front)
            for _ in range(workers):
                cluster.add("node1", "decode")
            cluster.ready(60.0)
            pids = {one.settings.unit: one.process.pid for one in cluster.units if one.process is not None}
            # The first request waits until the tokenizer is loaded.
            chat(unit.url, "warm up", max_tokens=1)
            yield Mocks(unit.url, pids)
        finally:
            if cluster is not None:
                cluster.close()
            nats.kill()
            etcd.kill()

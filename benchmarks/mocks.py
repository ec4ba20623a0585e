"""A cluster of mock engines on this machine, without SSH: etcd, NATS, and one process for each unit.

In: how many decode workers and frontends, the engine's args, a model folder or none. Out: a URL and the pids by unit.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyno_runtime.settings import Disagg, Endpoint, Engine, Model, Routing
from tests.runtime.cluster import Cluster
from tests.runtime.serving.client import chat
from tests.servers import Etcd, Nats, free_port

MODEL = "mock-model"


@dataclass
class Mocks:
    """What runs. `pids` by the unit's name; all roles but workers are in `frontend-0`, `frontend-1`, …"""

    url: str
    pids: dict[str, int]


@contextlib.contextmanager
def mocks(
    workers: int,
    args: dict[str, Any],
    model: str | None,
    block_size: int = 16,
    *,
    frontends: int = 1,
    **front: Any,
) -> Iterator[Mocks]:
    """Runs while the context is open; everything is stopped by pid. Several frontends share one port."""
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
            shared: dict[str, Any] = {"http": Endpoint("127.0.0.1", free_port()), "http_workers": frontends}
            for _ in range(frontends):
                unit = cluster.add("node1", "frontend", "processor", "router", **shared, **front)
            for _ in range(workers):
                cluster.add("node1", "decode")
            cluster.ready(60.0)
            pids = {one.settings.unit: one.process.pid for one in cluster.units if one.process is not None}
            # The first request waits until the tokenizer is loaded; who gets it is the system's choice.
            for _ in range(16 * frontends - 15):
                chat(unit.url, "warm up", max_tokens=1)
            yield Mocks(unit.url, pids)
        finally:
            if cluster is not None:
                cluster.close()
            nats.kill()
            etcd.kill()

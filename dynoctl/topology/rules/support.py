"""What the grammar knows and this version cannot run yet. To make something run, take it out of here.

In: a topology. Out: findings.
"""

from __future__ import annotations

from collections.abc import Iterator

from dynoctl.topology.document import Path
from dynoctl.topology.finding import Finding
from dynoctl.topology.hints import one_of
from dynoctl.topology.model import Topology
from dynoctl.topology.rules.places import workers

ENGINES = ("hello", "mock")
# (key of a worker, the value that works, what the others would be)
WORKERS = (
    ("span", (), "a worker larger than a node"),
    ("pp", 1, "pipeline parallelism"),
    ("dp", 1, "data parallelism"),
    ("executor", "mp", "a worker on Ray"),
)


def _not_yet(path: Path, value: str, known: tuple[str, ...]) -> Finding:
    instead = one_of([f"'{one}'" for one in known])
    return Finding(path, f"'{value}' is not in this version yet; use {instead}")


def engines(topology: Topology) -> Iterator[Finding]:
    """Engines that can be started."""
    if topology.engine.kind not in ENGINES:
        yield _not_yet(("engine", "kind"), topology.engine.kind, ENGINES)
    for path, worker in workers(topology):
        if worker.engine.kind is not None and worker.engine.kind not in ENGINES:
            yield _not_yet((*path, "engine", "kind"), worker.engine.kind, ENGINES)


def worker_shapes(topology: Topology) -> Iterator[Finding]:
    """Shapes of workers that can be started."""
    for path, worker in workers(topology):
        for key, works, what in WORKERS:
            if getattr(worker, key) != works:
                yield Finding((*path, key), f"{what} is not in this version yet", at_key=True)

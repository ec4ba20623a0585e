"""What the grammar knows and this version cannot run yet. To make something run, take it out of here.

In: a topology. Out: findings.
"""

from __future__ import annotations

from collections.abc import Iterator

from dynoctl.topology.finding import Finding
from dynoctl.topology.model import Topology
from dynoctl.topology.rules.places import workers

# (key of a worker, the value that works, what the others would be)
WORKERS = (
    ("span", (), "a worker larger than a node"),
    ("pp", 1, "pipeline parallelism"),
    ("dp", 1, "data parallelism"),
    ("executor", "mp", "a worker on Ray"),
)


def worker_shapes(topology: Topology) -> Iterator[Finding]:
    """Shapes of workers that can be started."""
    for path, worker in workers(topology):
        for key, works, what in WORKERS:
            if getattr(worker, key) != works:
                yield Finding((*path, key), f"{what} is not in this version yet", at_key=True)

"""What the grammar knows and this version cannot run yet. To make something run, take it out of here.

In: a topology. Out: findings.
"""

from __future__ import annotations

from collections.abc import Iterator

from dynoctl.topology.finding import Finding
from dynoctl.topology.model import Topology
from dynoctl.topology.rules.places import workers


def one_queue(topology: Topology) -> Iterator[Finding]:
    """The prefill queue is of one model."""
    names = {(worker.model or topology.model).name for _, worker in workers(topology)}
    if len(names) > 1 and topology.disagg.mode != "off":
        yield Finding(
            ("disagg", "mode"),
            "disaggregation with several models in one cluster is not in this version yet",
            "write `mode: off`, or give each model a cluster of its own",
        )

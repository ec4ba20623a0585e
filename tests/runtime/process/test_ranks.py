"""A worker of several processes, really: it serves as one, and the death of any process is the death of all."""

from __future__ import annotations

import signal

import pytest

from dyno_runtime.settings import Endpoint, Parallel
from tests.runtime.cluster import Cluster, Unit, ask
from tests.servers import free_port, wait_for

pytestmark = pytest.mark.servers


def spread(cluster: Cluster, nodes: int) -> list[Unit]:
    """A decode worker over so many nodes: its head, and its ranks."""
    gather = Endpoint("127.0.0.1", free_port())
    head = cluster.add("node1", "decode", parallel=Parallel(tp=nodes, nodes=nodes, head=gather))
    lead = head.settings.stream
    ranks = [
        cluster.add(
            f"node{rank + 1}",
            "decode",
            parallel=Parallel(tp=nodes, nodes=nodes, rank=rank, head=gather, lead=lead),
        )
        for rank in range(1, nodes)
    ]
    for rank in ranks:
        cluster.units.remove(rank)  # it is no instance
    return [head, *ranks]


def ended(units: list[Unit]) -> list[int]:
    return [unit.wait(40.0) for unit in units]


def rank_of(unit: Unit) -> dict[str, object]:
    return dict(unit.health().get("roles", {}).get("rank", {}))


def test_a_worker_of_three_processes_dies_and_comes_back_as_one(cluster: Cluster):
    front = cluster.add("node0", "frontend", "processor", "router")
    head, first, second = units = spread(cluster, 3)
    try:
        cluster.ready(60.0)
        wait_for(lambda: rank_of(first).get("engine") == "ready", "the rank is ready", 30.0)
        assert ask(front, "a b").worker == "node1/decode-0"

        second.end(signal.SIGKILL)
        assert ended([head, first]) == [1, 1]
        place = "node3/decode-2"
        why = f"rank 2 is lost, {place}: its process ended, or its node; the worker starts anew as one"
        assert f"ERROR process {why}" in head.log
        assert "ERROR rank the head at" in first.log
        wait_for(lambda: front.sees(), "it is no instance any more", 30.0)

        for unit in (first, second, head):
            unit.start()
        cluster.ready(60.0)
        assert ask(front, "a b").worker == "node1/decode-0"

        head.end(signal.SIGKILL)
        assert ended([first, second]) == [1, 1]
    finally:
        for unit in units:
            if unit.process is not None and unit.process.poll() is None:
                unit.process.kill()
                unit.process.wait()


def test_a_worker_that_is_stopped_finishes_what_is_in_flight_with_its_ranks(cluster: Cluster):
    front = cluster.add("node0", "frontend", "processor", "router")
    units = spread(cluster, 2)
    try:
        cluster.ready(60.0)
        assert ask(front, "a").status == 200
        for unit in reversed(units):
            unit.send(signal.SIGTERM)
        assert ended(units) == [0, 0]
        assert "is lost" not in units[0].log
    finally:
        for unit in units:
            if unit.process is not None and unit.process.poll() is None:
                unit.process.kill()
                unit.process.wait()

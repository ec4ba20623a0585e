"""Points and records for tests, short to write."""

from __future__ import annotations

from typing import Any

from dynoctl.bench.load import Load
from dynoctl.bench.record import Machine, Point, Record, Snapshot, Target, Tool, UnitAt
from dynoctl.bench.samples import Sample, metrics
from dynoctl.bench.validity import Evidence

LOAD = Load(requests=4, output_tokens=10)
GOOD = Sample(0.0, 1.0, 0.1, 3000, 10, 0, 10)


def snapshot(generation: int = 1, **units: tuple[int | None, int]) -> Snapshot:
    made = {
        name.replace("_", "-"): UnitAt(pid=pid, restarts=restarts, digest="d")
        for name, (pid, restarts) in units.items()
    }
    return Snapshot(generation=generation, units=made)


def evidence(samples: list[Sample], load: Load = LOAD, **more: Any) -> Evidence:
    return Evidence(load, metrics(samples, 2.0, load.slo, 0), samples, **more)


def point(load: Load = LOAD, latency_s: float = 1.0, reasons: tuple[str, ...] = ()) -> Point:
    samples = [Sample(float(n), latency_s, 0.1, 3000, 10, 0, 10) for n in range(4)]
    return Point(load=load, metrics=metrics(samples, 4 * latency_s, load.slo, 0), reasons=list(reasons))


def record(name: str, *points: Point, tool: str = "builtin", **more: Any) -> Record:
    return Record(
        id=name,
        started="2026-01-01T00:00:00Z",
        dynoctl="0.1.0",
        command=["dynoctl", "bench"],
        tool=Tool(name=tool, version="1"),
        target=Target(url="http://h:8000", model="m"),
        client=Machine(hostname="laptop"),
        points=list(points),
        **more,
    )

"""The report: one HTML page that needs nothing else, with tables, plots and all that the record knows.

In: a record, the plots as files. Out: the page's text.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dynoctl.bench.record import Machine, Point, Record
from dynoctl.show.bench.table import NONE, number, spread_cells, sweep_cells, totals

PAGE = Path(__file__).with_name("report.html")
HEADINGS = ["", "avg", "p50", "p90", "p99", "min", "max"]
PLOTS = {
    "latency-throughput.png": "latency against throughput",
    "ttft-over-time.png": "time to first token, over time",
    "itl-over-time.png": "inter-token latency, over time",
}


def page(record: Record, folder: Path) -> str:
    """The HTML; plots are those that lie in `folder`."""
    from jinja2 import Environment

    template = Environment(autoescape=True, trim_blocks=False).from_string(PAGE.read_text())
    plots = [
        {"words": words, "data": base64.b64encode((folder / name).read_bytes()).decode()}
        for name, words in PLOTS.items()
        if (folder / name).is_file()
    ]
    where = record.target.cluster or record.target.url
    return template.render(
        title=f"{where}: {record.target.model}",
        record=record,
        shapes=list(dict.fromkeys(point.load.shape for point in record.points)),
        points=[_point(point) for point in record.points],
        sweep=sweep_cells(record.points) if len(record.points) > 1 else None,
        headings=HEADINGS,
        plots=plots,
        machines=_machines(record),
        facts=_facts(record),
        commands=_commands(record),
        counters=_counters(record.points),
    )


def _point(point: Point) -> dict[str, Any]:
    words = (line.partition(" ") for line in totals(point))
    return {
        "label": point.load.label + ("" if point.valid else " (INVALID)"),
        "rows": spread_cells(point),
        "totals": [(name, value.strip()) for name, _, value in words],
    }


def _machines(record: Record) -> list[list[str]]:
    rows = [(f"{name} ({machine.hostname})", machine) for name, machine in record.nodes.items()]
    return [_machine(name, machine) for name, machine in [*rows, ("client", record.client)]]


def _machine(name: str, found: Machine) -> list[str]:
    engines = ", ".join(f"{engine} {version}" for engine, version in found.engines.items())
    memory = f", {found.memory_bytes / 2**30:.0f} GiB" if found.memory_bytes else ""
    gpus = "; ".join(found.gpus) or NONE
    return [
        name, found.processor + memory, str(found.cores), gpus, found.kernel, found.python or NONE,
        found.code or NONE, engines or NONE,
    ]  # fmt: skip


def _facts(record: Record) -> list[tuple[str, str]]:
    target = record.target
    found = [("url", target.url), ("model", target.model), ("tokenizer", record.tokenizer)]
    if target.cluster is not None:
        found += [
            ("topology", f"{target.topology}, generation {target.generation}"),
            ("GPUs", str(target.gpus) if target.gpus else NONE),
        ]
    seeds = ", ".join(str(point.load.seed) for point in record.points)
    return [*found, ("seeds", seeds), ("dynoctl", record.dynoctl), ("result", record.id)]


def _commands(record: Record) -> list[str]:
    found = [shlex.join(record.command)]
    return found + [shlex.join(point.command) for point in record.points if point.command]


def _counters(points: Sequence[Point]) -> list[tuple[str, str]]:
    """By how much the counters grew from before the first point to after the last one."""
    if not points or points[0].before is None or points[-1].after is None:
        return []
    before, after = points[0].before.counters, points[-1].after.counters
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    return [(name, f"{by:,.0f}" if by == int(by) else number(by)) for name, by in sorted(grown.items()) if by]

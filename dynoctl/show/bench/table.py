"""Results of benchmarks as tables for people.

In: records. Out: rich tables and plain lines; nothing is printed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dynoctl.bench.compare import Change, loads
from dynoctl.bench.record import Point, Record
from dynoctl.bench.samples import Spread

if TYPE_CHECKING:
    from rich.table import Table

NONE = "-"
FIGURES = {
    "requests_per_s": "requests/s",
    "output_tokens_per_s": "tokens/s",
    "ttft_ms": "TTFT ms",
    "itl_ms": "ITL ms",
    "latency_ms": "latency ms",
}


def number(value: float | None) -> str:
    """Four digits or so: `0.42`, `12.3`, `1,234`."""
    if value is None:
        return NONE
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def head(record: Record) -> Iterator[str]:
    """What was measured, with what."""
    where = record.target.cluster or record.target.url
    yield f"{where}: {record.target.model}, measured by {record.tool.name} {record.tool.version}"
    for load in dict.fromkeys(point.load.shape for point in record.points):
        yield f"  {load}"


def spreads(point: Point) -> Table:
    """One point: how times and lengths are spread."""
    table = _table("", "AVG", "P50", "P90", "P99", "MIN", "MAX")
    for row in spread_cells(point):
        table.add_row(*row)
    return table


def spread_cells(point: Point) -> list[list[str]]:
    """The rows of that table."""
    figures = point.metrics
    rows = {
        "time to first token, ms": figures.ttft_ms,
        "inter-token latency, ms": figures.itl_ms,
        "request latency, ms": figures.latency_ms,
        "input tokens": figures.input_tokens,
        "output tokens": figures.output_tokens,
    }
    return [[name, *_cells(found)] for name, found in rows.items()]


def _cells(found: Spread | None) -> list[str]:
    if found is None:
        return [NONE] * 6
    return [number(value) for value in (found.avg, found.p50, found.p90, found.p99, found.min, found.max)]


def totals(point: Point) -> Iterator[str]:
    """One point: what was done in all."""
    figures = point.metrics
    failed = sum(figures.errors.values())
    yield f"requests    {figures.requests:,} in {figures.duration_s:.1f} s, {failed:,} failed"
    throughput = [f"{number(figures.requests_per_s)} req/s", f"{number(figures.output_tokens_per_s)} tok/s"]
    if figures.output_tokens_per_s_per_user is not None:
        throughput.append(f"{number(figures.output_tokens_per_s_per_user)} tok/s per user")
    if figures.output_tokens_per_s_per_gpu is not None:
        throughput.append(f"{number(figures.output_tokens_per_s_per_gpu)} tok/s per GPU")
    yield f"throughput  {', '.join(throughput)}"
    if figures.good_requests_per_s is not None:
        share = figures.good_requests_per_s / figures.requests_per_s if figures.requests_per_s else 0.0
        yield (
            f"goodput     {number(figures.good_requests_per_s)} req/s ({share:.0%}) within {point.load.slo}"
        )
    if figures.cached_tokens is not None:
        yield f"cached      {figures.cached_tokens:,} prompt tokens ({figures.cached_share or 0:.0%})"
    if point.client_cpu is not None:
        yield f"client      {point.client_cpu:.0%} of a core"
    for what, count in figures.errors.items():
        yield f"error       {count:,} × {what}"


def sweep(points: Sequence[Point]) -> Table:
    """Several points, one a row."""
    headings, rows = sweep_cells(points)
    table = _table(*headings)
    for row in rows:
        table.add_row(*row)
    return table


def sweep_cells(points: Sequence[Point]) -> tuple[list[str], list[list[str]]]:
    """The headings and rows of that table; no column of what no point has."""
    good = any(point.metrics.good_requests_per_s is not None for point in points)
    gpu = any(point.metrics.output_tokens_per_s_per_gpu is not None for point in points)
    headings = [
        "LOAD", "TTFT P50", "P99", "ITL P50", "P99", "LATENCY P50", "P99", "REQ/S", "TOK/S", "PER USER",
        *(["PER GPU"] if gpu else []), *(["GOOD/S"] if good else []), "CACHED", "FAILED", "",
    ]  # fmt: skip
    rows = []
    for point in points:
        figures = point.metrics
        cells = [point.load.label]
        for found in (figures.ttft_ms, figures.itl_ms, figures.latency_ms):
            cells += [number(found.p50), number(found.p99)] if found else [NONE, NONE]
        cells += [
            number(figures.requests_per_s),
            number(figures.output_tokens_per_s),
            number(figures.output_tokens_per_s_per_user),
        ]
        cells += [number(figures.output_tokens_per_s_per_gpu)] if gpu else []
        cells += [number(figures.good_requests_per_s)] if good else []
        cells += [NONE if figures.cached_share is None else f"{figures.cached_share:.0%}"]
        rows.append([*cells, str(sum(figures.errors.values())), "" if point.valid else "INVALID"])
    return headings, rows


def verdict(record: Record) -> Iterator[str]:
    """`valid`, or INVALID and why."""
    if record.valid:
        yield "valid"
        return
    yield "INVALID: these figures must not be believed"
    for why in record.reasons:
        yield f"  {why}"


def listed(found: Sequence[tuple[str, Record | None]]) -> Table:
    """Results, one a row; one that cannot be read is shown as such."""
    table = _table("RESULT", "STARTED", "WHAT", "TOOL", "LOAD", "TOK/S", "")
    for name, record in found:
        if record is None:
            table.add_row(name, *[NONE] * 5, "cannot be read")
            continue
        best = max((point.metrics.output_tokens_per_s for point in record.points), default=None)
        table.add_row(
            name,
            record.started,
            record.target.cluster or record.target.url,
            record.tool.name,
            loads(record)[0] + (f" and {len(record.points) - 1} more" if len(record.points) > 1 else ""),
            number(best),
            "" if record.valid else "INVALID",
        )
    return table


def compared(changes: Sequence[Change]) -> Table:
    """What changed, a row for each load and figure."""
    table = _table("LOAD", "FIGURE", "WAS", "NOW", "CHANGE", "± 95 %", "")
    last = None
    for change in changes:
        percent = change.percent
        table.add_row(
            "" if change.load == last else change.load,
            FIGURES[change.figure],
            number(change.was),
            number(change.now),
            NONE if percent is None else f"{percent:+.1f} %",
            NONE if change.margin is None or not change.was else f"{change.margin / change.was * 100:.1f} %",
            change.verdict,
        )
        last = change.load
    return table


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for place, heading in enumerate(headings):
        words = (
            place == 0 or heading in ("", "FIGURE", "STARTED", "WHAT", "TOOL") or headings[place] == "LOAD"
        )
        table.add_column(heading, no_wrap=True, justify="left" if words else "right")
    return table

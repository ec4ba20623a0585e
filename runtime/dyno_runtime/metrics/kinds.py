"""Counters, gauges and histograms as plain numbers and lists, and their text for Prometheus.

In: a `Metric`, and what happened. Out: lines of the exposition format 0.0.4. One thread, so nothing is locked. A
histogram takes what happened to many tokens at once: for a token nothing is done but keeping its time in a list.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]


@dataclass(frozen=True)
class Metric:
    """What a metric is called and means. `labels` are the names of its labels, `bounds` the upper ends of buckets."""

    name: str
    kind: Kind
    help: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()


class Values:
    """A counter or a gauge: one number for each combination of label values that was seen."""

    __slots__ = ("metric", "values")

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        # Without labels there is one value, and it is there from the start; with labels a rate needs no first 0.
        self.values: dict[Labels, float] = {} if metric.labels else {(): 0}

    def add(self, amount: float = 1, *labels: str) -> None:
        """It happened so often."""
        self.values[labels] = self.values.get(labels, 0) + amount

    def put(self, value: float, *labels: str) -> None:
        """It is this much now: a gauge, or a counter that somebody else counts."""
        self.values[labels] = value

    def lines(self) -> list[str]:
        """Its samples."""
        metric = self.metric
        return [
            f"{metric.name}{_braces(metric.labels, labels)} {number(value)}"
            for labels, value in sorted(self.values.items())
        ]


class Histogram:
    """How often a time was at most so long. `counts` has one entry a bucket, the last one for what is above all."""

    __slots__ = ("counts", "metric", "total")

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.counts = [0] * (len(metric.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """One of them took so long, or so many of them."""
        self.counts[bisect_left(self.metric.bounds, value)] += times
        self.total += value * times

    def observe_all(self, values: list[float]) -> None:
        """All of these; the list is sorted in place."""
        values.sort()
        counts, start = self.counts, 0
        for place, bound in enumerate(self.metric.bounds):
            end = bisect_right(values, bound, start)
            counts[place] += end - start
            start = end
        counts[-1] += len(values) - start
        self.total += sum(values)

    def lines(self) -> list[str]:
        """Its samples: buckets that include all below them, then sum and count."""
        name, lines, below = self.metric.name, [], 0
        for bound, count in zip(self.metric.bounds, self.counts, strict=False):
            below += count
            lines.append(f'{name}_bucket{{le="{number(bound)}"}} {below}')
        below += self.counts[-1]
        lines.append(f'{name}_bucket{{le="+Inf"}} {below}')
        return [*lines, f"{name}_sum {number(self.total)}", f"{name}_count {below}"]


Series = Values | Histogram


class Meter:
    """All metrics of one process; each is there from the moment that somebody asks for it."""

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}

    def values(self, metric: Metric) -> Values:
        """The counter or gauge."""
        found = self.series.setdefault(metric.name, Values(metric))
        assert isinstance(found, Values)
        return found

    def histogram(self, metric: Metric) -> Histogram:
        """The histogram."""
        found = self.series.setdefault(metric.name, Histogram(metric))
        assert isinstance(found, Histogram)
        return found

    def text(self) -> bytes:
        """What Prometheus reads."""
        lines: list[str] = []
        for name, series in sorted(self.series.items()):
            lines += (f"# HELP {name} {series.metric.help}", f"# TYPE {name} {series.metric.kind}")
            lines += series.lines()
        return ("\n".join(lines) + "\n").encode()


def number(value: float) -> str:
    """As Prometheus reads it; whole numbers without a point."""
    return str(int(value)) if value == int(value) else repr(float(value))


def _braces(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

"""The last minute of a process's metrics: what moved since the oldest of a few snapshots.

In: the meter, at every beat, with the time. Out: a `Minute`, which goes into a file, over the wire, and into
`dynoctl status`. Sums over processes and percentiles are made by whoever has the minutes of all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from dyno_runtime.metrics.kinds import Histogram, Meter

WINDOW_S = 60.0
BEAT_S = 2.0


class Buckets(msgspec.Struct, frozen=True):
    """What a histogram counted in the window. `counts` has one more than `bounds`: what is above all of them."""

    bounds: tuple[float, ...]
    counts: list[int]
    total: float


class Minute(msgspec.Struct, frozen=True):
    """`moved`: what counters grew by; `now`: gauges. Keys are names, and for labels `name{value}`. Counters
    and histograms that did not move in these `seconds` are left out."""

    seconds: float
    moved: dict[str, float] = {}
    now: dict[str, float] = {}
    histograms: dict[str, Buckets] = {}


class _Snapshot:
    """All counters and histograms at one time."""

    __slots__ = ("at_s", "counters", "histograms")

    def __init__(self, meter: Meter, at_s: float) -> None:
        self.at_s = at_s
        self.counters: dict[str, float] = {}
        self.histograms: dict[str, tuple[list[int], float]] = {}
        for name, series in meter.series.items():
            if isinstance(series, Histogram):
                self.histograms[name] = (series.counts[:], series.total)
            elif series.metric.kind == "counter":
                self.counters |= {_key(name, labels): value for labels, value in series.values.items()}


class Ring:
    """Snapshots of one meter, none older than needed. Nothing was counted before `start_s`."""

    def __init__(self, meter: Meter, start_s: float) -> None:
        self._meter = meter
        self._snapshots: deque[_Snapshot] = deque([_Snapshot(Meter(), start_s)])

    def look(self, now_s: float) -> Minute:
        """The window that ends now."""
        return self._between(self._snapshots[0], _Snapshot(self._meter, now_s))

    def keep(self, now_s: float) -> None:
        """Remember how things are now, and forget what the window does not reach any more."""
        self._snapshots.append(_Snapshot(self._meter, now_s))
        while len(self._snapshots) > 1 and self._snapshots[1].at_s <= now_s - WINDOW_S:
            self._snapshots.popleft()

    def _between(self, before: _Snapshot, after: _Snapshot) -> Minute:
        moved = {
            key: value - before.counters.get(key, 0)
            for key, value in after.counters.items()
            if value != before.counters.get(key, 0)
        }
        now: dict[str, float] = {}
        histograms: dict[str, Buckets] = {}
        for name, series in self._meter.series.items():
            if isinstance(series, Histogram):
                counts, total = after.histograms[name]
                had, had_total = before.histograms.get(name, ([0] * len(counts), 0.0))
                if counts != had:
                    grown = [count - old for count, old in zip(counts, had, strict=True)]
                    histograms[name] = Buckets(series.metric.bounds, grown, total - had_total)
            elif series.metric.kind == "gauge":
                now |= {_key(name, labels): value for labels, value in series.values.items()}
        return Minute(round(after.at_s - before.at_s, 3), moved, now, histograms)


def _key(name: str, labels: tuple[str, ...]) -> str:
    return f"{name}{{{','.join(labels)}}}" if labels else name


def percentile(told: Sequence[Buckets], part: float) -> float | None:
    """The time that so large a part of all was at most, as if they lay evenly in their bucket; None without any.

    What is above all bounds counts as the last one; buckets with other bounds than the first ones are left out.
    """
    if not told:
        return None
    bounds: tuple[float, ...] = told[0].bounds
    counts = [
        sum(column) for column in zip(*(one.counts for one in told if one.bounds == bounds), strict=True)
    ]
    rank, below = part * sum(counts), 0
    for (lower, upper), count in zip(pairwise((0.0, *bounds)), counts, strict=False):
        if count and below + count >= rank:
            return round(float(lower + (upper - lower) * (rank - below) / count), 6)
        below += count
    return float(bounds[-1])

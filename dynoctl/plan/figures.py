"""The last minute of a whole cluster, from what each of its processes wrote about itself.

In: what was observed. Out: `Figures`: rates, percentiles, shares. The names are those of docs/metrics.md; what a
process says that cannot be understood is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from dynoctl.plan.observed import Observed

FIRST, BETWEEN = "dyno_time_to_first_token_seconds", "dyno_inter_token_latency_seconds"
DURATION, QUEUE = "dyno_request_duration_seconds", "dyno_queue_seconds"


@dataclass(frozen=True, slots=True)
class Spread:
    """Two percentiles of a time, and of how many times."""

    p50_s: float
    p99_s: float
    count: int


@dataclass(frozen=True, slots=True)
class Figures:
    """See the module. What nobody measured is None; `rejections` are counted by reason, all within `seconds`."""

    seconds: float
    processes: int
    requests_per_s: float
    tokens_per_s: float
    in_flight: int
    retries: int = 0
    migrations: int = 0
    rejections: dict[str, int] = field(default_factory=dict)
    first_token: Spread | None = None
    between_tokens: Spread | None = None
    request: Spread | None = None
    queue: Spread | None = None
    kv_use: float | None = None
    cached_share: float | None = None
    remote_prefill_share: float | None = None
    prefill_queue: int | None = None
    planned: dict[str, Any] | None = None


class _Minute:
    """What one process said: sums of counters, gauges and buckets by name."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        minute = found["minute"]
        self.seconds = max(float(minute["seconds"]), 1e-3)
        self.moved = {str(key): float(value) for key, value in minute["moved"].items()}
        self.now = {str(key): float(value) for key, value in minute["now"].items()}
        self.histograms = {
            str(key): (tuple(map(float, one["bounds"])), list(map(int, one["counts"])))
            for key, one in minute["histograms"].items()
        }
        self.planned: dict[str, Any] | None = dict(found["planned"]) if found.get("planned") else None

    def by_label(self, name: str) -> dict[str, float]:
        """What a counter with one label grew by, for each of its values."""
        return {
            key.removeprefix(f"{name}{{").removesuffix("}"): value
            for key, value in self.moved.items()
            if key.startswith(f"{name}{{")
        }


def cluster_figures(observed: Observed) -> Figures | None:
    """The figures of all processes that tell theirs; None where none does."""
    found = [one for seen in observed.nodes.values() for unit in seen.units.values() if (one := unit.figures)]
    minutes = [minute for one in found if (minute := _understood(one)) is not None]
    if not minutes:
        return None
    planned = [one.planned for one in minutes if one.planned is not None]
    depths = [one.now["dyno_prefill_queue_tasks"] for one in minutes if "dyno_prefill_queue_tasks" in one.now]
    return Figures(
        seconds=round(max(one.seconds for one in minutes), 1),
        processes=len(minutes),
        requests_per_s=sum(
            sum(one.by_label("dyno_requests_total").values()) / one.seconds for one in minutes
        ),
        tokens_per_s=sum(one.moved.get("dyno_answer_tokens_total", 0) / one.seconds for one in minutes),
        in_flight=int(sum(one.now.get("dyno_requests_in_flight{frontend}", 0) for one in minutes)),
        retries=int(sum(sum(one.by_label("dyno_retries_total").values()) for one in minutes)),
        migrations=int(sum(sum(one.by_label("dyno_migrations_total").values()) for one in minutes)),
        rejections=_added(one.by_label("dyno_rejections_total") for one in minutes),
        first_token=_spread(minutes, FIRST),
        between_tokens=_spread(minutes, BETWEEN),
        request=_spread(minutes, DURATION),
        queue=_spread(minutes, QUEUE),
        kv_use=_share(minutes, "now", "dyno_kv_blocks{active}", "dyno_kv_blocks{total}"),
        cached_share=_share(minutes, "moved", "dyno_cached_tokens_total", "dyno_prompt_tokens_total"),
        remote_prefill_share=_remote_share(_added(one.by_label("dyno_prefills_total") for one in minutes)),
        prefill_queue=int(max(depths)) if depths else None,  # the longest queue of a model
        planned=max(planned, key=lambda one: str(one.get("at", "")), default=None),
    )


def _understood(found: Mapping[str, Any]) -> _Minute | None:
    try:
        return _Minute(found)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # another version wrote it


def _added(many: Iterable[Mapping[str, float]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in many:
        for key, value in one.items():
            total[key] = total.get(key, 0) + int(value)
    return dict(sorted(total.items()))


def _share(minutes: Sequence[_Minute], where: str, part: str, whole: str) -> float | None:
    of = sum(getattr(one, where).get(whole, 0) for one in minutes)
    return sum(getattr(one, where).get(part, 0) for one in minutes) / of if of else None


def _remote_share(paths: Mapping[str, int]) -> float | None:
    """None where no prefill went, or was to go, elsewhere."""
    if not paths.get("remote") and not paths.get("local_after_remote"):
        return None
    return paths.get("remote", 0) / sum(paths.values())


def _spread(minutes: Sequence[_Minute], name: str) -> Spread | None:
    """Buckets of all processes together; they have the same bounds, or are left out."""
    told = [one.histograms[name] for one in minutes if name in one.histograms]
    if not told:
        return None
    bounds = told[0][0]
    counts = [sum(column) for column in zip(*(had for ends, had in told if ends == bounds), strict=False)]
    total = sum(counts)
    if total <= 0:
        return None
    p50_s, p99_s = (round(quantile(bounds, counts, part), 6) for part in (0.5, 0.99))
    return Spread(p50_s, p99_s, total)


def quantile(bounds: Sequence[float], counts: Sequence[int], part: float) -> float:
    """The value that so large a part is at most, as if values lay evenly in their bucket; at most the last bound."""
    rank, below = part * sum(counts), 0
    for (lower, upper), count in zip(pairwise((0.0, *bounds)), counts, strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        below += count
    return bounds[-1]

"""What was measured of each request, and what all of them come to.

In: samples. Out: `Metrics`. Times between tokens are those of a request: from its first token to its end, divided by
the tokens after the first one, as genai-perf and aiperf define them. What a user gets is, as their metric
`output_token_throughput_per_user` has it, 1/ITL of a request, the mean of all: without the wait for the first token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

import msgspec

from dynoctl.bench.slo import Slo


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. `start_s` counts from the first request of the point; tokens are as the server says."""

    start_s: float
    latency_s: float
    ttft_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    asked_tokens: int | None = None
    error: str | None = None

    @property
    def itl_s(self) -> float | None:
        """The mean time between two tokens; None where there are not two."""
        if self.ttft_s is None or self.output_tokens is None or self.output_tokens < 2:
            return None
        return (self.latency_s - self.ttft_s) / (self.output_tokens - 1)


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How something is spread among requests."""

    avg: float
    p50: float
    p90: float
    p99: float
    min: float
    max: float
    std: float


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one point; None where the tool gives none, or nothing was answered."""

    requests: int
    errors: dict[str, int] = {}
    duration_s: float
    ttft_ms: Spread | None = None
    itl_ms: Spread | None = None
    latency_ms: Spread | None = None
    input_tokens: Spread | None = None
    output_tokens: Spread | None = None
    requests_per_s: float = 0.0
    output_tokens_per_s: float = 0.0
    output_tokens_per_s_per_user: float | None = None
    output_tokens_per_s_per_gpu: float | None = None
    cached_tokens: int | None = None
    cached_share: float | None = None
    good_requests_per_s: float | None = None


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Between the two neighbours, linearly."""
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(values: Iterable[float]) -> Spread | None:
    """None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    avg = sum(ordered) / len(ordered)
    std = sqrt(sum((value - avg) ** 2 for value in ordered) / len(ordered))
    p50, p90, p99 = (percentile(ordered, percent) for percent in (50, 90, 99))
    return Spread(avg=avg, p50=p50, p90=p90, p99=p99, min=ordered[0], max=ordered[-1], std=std)


def metrics(samples: Sequence[Sample], duration_s: float, slo: Slo, gpus: int) -> Metrics:
    """All of a point. Requests that failed count as errors and nowhere else."""
    good = [one for one in samples if one.error is None]
    tokens = sum(one.output_tokens or 0 for one in good)
    per_s = 1 / duration_s if duration_s > 0 else 0.0
    cached = [one.cached_tokens for one in good if one.cached_tokens is not None]
    prompt_tokens = sum(one.input_tokens or 0 for one in good)
    per_user = [1 / one.itl_s for one in good if one.itl_s]
    return Metrics(
        requests=len(good),
        errors=dict(Counter(one.error for one in samples if one.error is not None).most_common()),
        duration_s=duration_s,
        ttft_ms=spread(one.ttft_s * 1e3 for one in good if one.ttft_s is not None),
        itl_ms=spread(one.itl_s * 1e3 for one in good if one.itl_s is not None),
        latency_ms=spread(one.latency_s * 1e3 for one in good),
        input_tokens=spread(one.input_tokens for one in good if one.input_tokens is not None),
        output_tokens=spread(one.output_tokens for one in good if one.output_tokens is not None),
        requests_per_s=len(good) * per_s,
        output_tokens_per_s=tokens * per_s,
        output_tokens_per_s_per_user=sum(per_user) / len(per_user) if per_user else None,
        output_tokens_per_s_per_gpu=tokens * per_s / gpus if gpus else None,
        cached_tokens=sum(cached) if cached else None,
        cached_share=sum(cached) / prompt_tokens if cached and prompt_tokens else None,
        good_requests_per_s=kept(good, slo) * per_s if slo.asked else None,
    )


def kept(samples: Iterable[Sample], slo: Slo) -> int:
    """How many requests kept all objectives."""

    def ms(seconds: float | None) -> float | None:
        return None if seconds is None else seconds * 1e3

    return sum(
        one.error is None and slo.kept(ms(one.ttft_s), ms(one.itl_s), one.latency_s * 1e3) for one in samples
    )

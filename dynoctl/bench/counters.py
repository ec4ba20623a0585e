"""Counters as a server tells them at /metrics, in Prometheus' text form.

In: that text. Out: the value of each counter, with its labels as they stand there. Gauges and buckets of histograms
are left out: a difference of two moments means nothing for the one, and is too much of the other.
"""

from __future__ import annotations

import re
from math import isfinite

import msgspec

from dynoctl.bench.samples import Metrics

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*(?:\{.*\})?)\s+(\S+)(?:\s+-?\d+)?")


def counters(text: str) -> dict[str, float]:
    """By name and labels; what cannot be read is left out."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = _SAMPLE.fullmatch(line.strip()) if not line.startswith("#") else None
        if match is None:
            continue
        name = match[1].partition("{")[0]
        if name.endswith(("_total", "_sum", "_count")):
            try:
                value = float(match[2])
            except ValueError:
                continue
            if isfinite(value):  # others can neither be counted with nor kept as JSON
                found[match[1]] = value
    return found


def total(values: dict[str, float], name: str) -> float | None:
    """The sum over all labels; None where there is no such counter."""
    parts = [value for key, value in values.items() if key.partition("{")[0] == name]
    return sum(parts) if parts else None


# What servers call the prompt tokens that came from a cache, and all of them.
CACHED = (
    ("dyno_cached_tokens_total", "dyno_prompt_tokens_total"),
    ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"),
)


def with_counters(metrics: Metrics, before: dict[str, float], after: dict[str, float]) -> Metrics:
    """With the cache hits that the server counted, where the tool does not tell of them; those of the warm-up are
    among them."""
    if metrics.cached_tokens is not None:
        return metrics
    for name, whole in CACHED:
        now, prompt = total(after, name), total(after, whole)
        if now is not None and prompt is not None:
            cached = now - (total(before, name) or 0.0)
            asked = prompt - (total(before, whole) or 0.0)
            share = cached / asked if asked else None
            return msgspec.structs.replace(metrics, cached_tokens=int(cached), cached_share=share)
    return metrics

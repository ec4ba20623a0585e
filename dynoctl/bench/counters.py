"""Counters as a server tells them at /metrics, in Prometheus' text form.

In: that text. Out: the value of each counter, with its labels as they stand there. Gauges and buckets of histograms
are left out: a difference of two moments means nothing for the one, and is too much of the other.
"""

from __future__ import annotations

import re

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
                found[match[1]] = float(match[2])
            except ValueError:
                continue
    return found


def total(values: dict[str, float], name: str) -> float | None:
    """The sum over all labels; None where there is no such counter."""
    parts = [value for key, value in values.items() if key.partition("{")[0] == name]
    return sum(parts) if parts else None

"""Service level objectives: what a request must keep to count as good.

In: `ttft=500ms,itl=50ms`. Out: a `Slo`, or a `UsageError` that says what can be written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dynoctl.errors import UsageError

NAMES = {"ttft": "ttft_ms", "itl": "itl_ms", "latency": "latency_ms"}
UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_VALUE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)")
HOWTO = "--slo ttft=500ms,itl=50ms,latency=10s"


@dataclass(frozen=True, slots=True)
class Slo:
    """The most that a good request may take; None where nothing was said."""

    ttft_ms: float | None = None
    itl_ms: float | None = None
    latency_ms: float | None = None

    @property
    def asked(self) -> bool:
        """Whether anything was said at all."""
        return any(limit is not None for limit in (self.ttft_ms, self.itl_ms, self.latency_ms))

    def kept(self, ttft_ms: float | None, itl_ms: float | None, latency_ms: float) -> bool:
        """Whether a request was good. What could not be measured (the gaps of one token) breaks nothing."""
        pairs = ((self.ttft_ms, ttft_ms), (self.itl_ms, itl_ms), (self.latency_ms, latency_ms))
        return all(limit is None or taken is None or taken <= limit for limit, taken in pairs)

    def __str__(self) -> str:
        limits = [(name, getattr(self, key)) for name, key in NAMES.items()]
        return ",".join(f"{name}={limit:g}ms" for name, limit in limits if limit is not None)


NO_SLO = Slo()


def parse(text: str) -> Slo:
    """Raises UsageError for an unknown name, a number that is none, and units that are none."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, mark, value = (word.strip() for word in part.partition("="))
        if not mark or name not in NAMES:
            raise _refused(f"{part.strip()!r} names no objective; there are {', '.join(NAMES)}")
        if NAMES[name] in found:
            raise _refused(f"{name} is given twice")
        match = _VALUE.fullmatch(value)
        if match is None:
            raise _refused(f"{name}: {value!r} is no time")
        number, unit = match.groups()
        if unit not in UNITS_MS:
            said = f"{unit!r} is no unit of time" if unit else f"{number} has no unit"
            raise _refused(f"{name}: {said}; write us, ms or s")
        found[NAMES[name]] = float(number) * UNITS_MS[unit]
        if not found[NAMES[name]]:
            raise _refused(f"{name}: no request can take 0 {unit}")
    return Slo(**found)


def _refused(why: str) -> UsageError:
    return UsageError(f"--slo: {why}", next=HOWTO)

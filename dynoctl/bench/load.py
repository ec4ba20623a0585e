"""The load of a benchmark, as it was asked for: a shape, and the points of a sweep.

In: what was typed. Out: a `Load` a point, every default filled in. The defaults are those of the usual genai-perf
command for this kind of cluster: 3,000 tokens in, 150 out, 10 at a time, 40 requests after 10 to warm up, seed 123.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dynoctl.bench.slo import NO_SLO, Slo
from dynoctl.errors import UsageError

CONCURRENCY = 10
REQUESTS = 40
WARMUP = 10
SEED = 123
ROUNDS = 4  # requests for each client, where so many are more than the default


@dataclass(frozen=True, slots=True)
class Load:
    """One point. Exactly one of `concurrency` (closed loop), `rate_per_s` (open loop) and `trace` says when requests
    are sent; `concurrency` beside a rate is the most that may be under way.

    `turns`: requests of one conversation, each with what was said before. `prefixes` common beginnings of
    `prefix_tokens` are shared among the prompts.
    """

    input_tokens: int = 3000
    input_stddev: int = 0
    output_tokens: int = 150
    output_stddev: int = 0
    concurrency: int | None = CONCURRENCY
    rate_per_s: float | None = None
    requests: int = REQUESTS
    warmup: int = WARMUP
    seed: int = SEED
    turns: int = 1
    prefix_tokens: int = 0
    prefixes: int = 1
    trace: str | None = None
    trace_speed: float = 1.0
    slo: Slo = NO_SLO

    @property
    def exact_output(self) -> bool:
        """Whether every answer must have the same length."""
        return self.trace is None and self.output_stddev == 0

    @property
    def label(self) -> str:
        """`concurrency 10`, `2.5 req/s`: what tells this point from the others of its sweep."""
        if self.trace is not None:
            return "trace" if self.trace_speed == 1 else f"trace × {self.trace_speed:g}"
        if self.rate_per_s is not None:
            most = f", at most {self.concurrency}" if self.concurrency is not None else ""
            return f"{self.rate_per_s:g} req/s{most}"
        return f"concurrency {self.concurrency}"

    @property
    def shape(self) -> str:
        """The rest: what all points of a sweep have in common."""
        if self.trace is not None:
            return f"trace {self.trace}, {self.requests} requests"
        parts = [f"{_tokens(self.input_tokens, self.input_stddev)} in"]
        parts.append(f"{_tokens(self.output_tokens, self.output_stddev)} out")
        if self.prefix_tokens:
            parts.append(f"{self.prefixes} prefixes of {self.prefix_tokens}")
        if self.turns > 1:
            parts.append(f"{self.turns} turns")
        return ", ".join(parts)

    @property
    def key(self) -> tuple[Any, ...]:
        """What two points must have in common to be compared: everything but seed and number of requests."""
        same = replace(self, requests=0, warmup=0, seed=0, slo=Slo())
        return tuple(getattr(same, name) for name in self.__dataclass_fields__)


def _tokens(mean: int, stddev: int) -> str:
    return f"{mean} ± {stddev}" if stddev else str(mean)


def points(
    base: Load,
    concurrency: str | None,
    rate: str | None,
    requests: int | None,
    warmup: int | None,
    repeat: int = 1,
) -> tuple[Load, ...]:
    """The points of a sweep, each with a seed of its own so that none meets the prompts of another in the cache.

    Raises UsageError for lists that are none, and for what cannot go together.
    """
    if base.trace is not None:
        if concurrency or rate or base.turns > 1 or base.prefix_tokens:
            raise UsageError(
                "--trace says when requests come and what they share: it goes without --concurrency, "
                "--request-rate, --turns and --shared-prefix"
            )
        wanted: list[Load] = [replace(base, concurrency=None)]
    elif rate is not None:
        rates = [float(one) for one in numbers("--request-rate", rate, whole=False)]
        caps = numbers("--concurrency", concurrency) if concurrency else []
        if len(caps) > 1:
            raise UsageError("a sweep goes over --concurrency or over --request-rate, not over both")
        most = int(caps[0]) if caps else None
        wanted = [replace(base, concurrency=most, rate_per_s=one) for one in rates]
    else:
        found = numbers("--concurrency", concurrency) if concurrency else [CONCURRENCY]
        wanted = [replace(base, concurrency=int(one)) for one in found]
    filled = [_counted(load, requests, warmup) for load in wanted]
    return tuple(
        replace(load, seed=base.seed + number)
        for number, load in enumerate(load for _ in range(repeat) for load in filled)
    )


def _counted(load: Load, requests: int | None, warmup: int | None) -> Load:
    """Enough requests for everybody to be asked several times, unless it was said how many."""
    at_once = (load.concurrency or 0) * load.turns
    if load.trace is not None:
        return replace(load, requests=requests or load.requests, warmup=WARMUP if warmup is None else warmup)
    return replace(
        load,
        requests=max(REQUESTS, ROUNDS * at_once) if requests is None else requests,
        warmup=max(WARMUP, load.concurrency or 0) if warmup is None else warmup,
    )


def numbers(option: str, text: str, *, whole: bool = True) -> Sequence[float]:
    """`1,4,16` as numbers above zero, each once. Raises UsageError."""
    found: list[float] = []
    for part in text.split(","):
        try:
            number = int(part) if whole else float(part)
        except ValueError:
            number = 0
        if not 0 < number < 1e6:
            kind = "a whole number" if whole else "a number"
            raise UsageError(f"{option}: {part.strip()!r} is not {kind} above 0", next=f"{option} 1,4,16")
        if number in found:
            raise UsageError(f"{option}: {part.strip()} is given twice")
        found.append(number)
    return found

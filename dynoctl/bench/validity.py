"""The gate: what speaks against believing a point.

In: a point as it was measured. Out: the reasons, in words; none where there is nothing. A benchmark of a worker that
returns nothing, of a cache instead of an engine, or of a client that could not keep up is no benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dynoctl.bench.load import Load
from dynoctl.bench.record import Snapshot
from dynoctl.bench.samples import Metrics, Sample

BUSY_CLIENT = 0.9  # of one core: above it, the client's own queue is what is measured
COMMON_HEAD_TOKENS = 64  # what a chat template may put before every prompt
UNASKED_SHARE = 0.05
TEXT_SLACK = 0.1  # of the asked length


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gate looks at. `client_cpu` is the share of one core of the client's busiest process."""

    load: Load
    metrics: Metrics
    samples: Sequence[Sample]
    client_cpu: float | None = None
    before: Snapshot | None = None
    after: Snapshot | None = None
    exact: bool = (
        True  # tokens as the server counted them; else by the text, which comes out a little different
    )


def reasons(found: Evidence) -> list[str]:
    """Everything that speaks against it."""
    return [
        *_errors(found),
        *_tokens(found),
        *_warmup(found.load),
        *_client(found.client_cpu),
        *_hits(found),
        *changes(found.before, found.after),
    ]


def _errors(found: Evidence) -> Iterator[str]:
    failed = sum(found.metrics.errors.values())
    sent = failed + found.metrics.requests
    if failed:
        what, count = next(iter(found.metrics.errors.items()))
        others = f" ({count} of them)" if count < failed else ""
        yield f"{failed} of {sent} requests failed: {what}{others}"
    if sent < found.load.requests:
        yield f"only {sent} of {found.load.requests} requests were measured"


def _tokens(found: Evidence) -> Iterator[str]:
    good = [one for one in found.samples if one.error is None]
    empty = sum(not one.output_tokens for one in good)
    if empty:
        yield f"{empty} of {len(good)} answers had no token"
    slack = 0.0 if found.exact else TEXT_SLACK
    wrong = [
        one
        for one in good
        if one.output_tokens
        and one.asked_tokens is not None
        and abs(one.output_tokens - one.asked_tokens) > slack * one.asked_tokens
    ]
    if wrong:
        one = wrong[0]
        yield (
            f"{len(wrong)} of {len(good)} answers had another length than was asked for: "
            f"{one.output_tokens} tokens instead of {one.asked_tokens}"
        )


def _warmup(load: Load) -> Iterator[str]:
    if load.warmup < 1:
        yield "nothing was warmed up"


def _client(cpu: float | None) -> Iterator[str]:
    if cpu is not None and cpu >= BUSY_CLIENT:
        yield f"the client was saturated: one of its processes used {cpu:.0%} of a core"


def _hits(found: Evidence) -> Iterator[str]:
    figures, load = found.metrics, found.load
    if load.turns > 1 or load.trace is not None or figures.cached_tokens is None or not figures.requests:
        return
    prompt = figures.input_tokens.avg if figures.input_tokens is not None else 0.0
    # Counters of a server have the warm-up in them, so that their sum is not divided by our requests.
    of_all = figures.cached_share
    each = figures.cached_tokens / figures.requests if of_all is None else of_all * prompt
    if each > load.prefix_tokens + max(min(COMMON_HEAD_TOKENS, prompt / 2), UNASKED_SHARE * prompt):
        share = f"{each / prompt:.0%}" if prompt else f"{each:.0f} tokens"
        asked = f"{load.prefix_tokens} tokens were to" if load.prefix_tokens else "which was not asked for"
        yield (
            f"{share} of each prompt came from a cache, {asked}: "
            f"were prompts of seed {load.seed} sent before?"
        )


def changes(before: Snapshot | None, after: Snapshot | None) -> Iterator[str]:
    """What happened to the cluster meanwhile."""
    if before is None or after is None:
        return
    if before.generation != after.generation:
        yield f"the topology was changed during the run: generation {before.generation} → {after.generation}"
    for name in sorted(before.units.keys() | after.units.keys()):
        was, now = before.units.get(name), after.units.get(name)
        if was is None:
            yield f"{name} was started during the run"
        elif now is None or now.pid is None:
            yield f"{name} was gone at the end of the run"
        elif (now.pid, now.restarts) != (was.pid, was.restarts):
            yield f"{name} was restarted during the run"

"""Would more or fewer workers be better? The planner's rules, without clock and network.

In: what was looked at within one interval (`Window`), and how many intervals decode still has grace. Out: a
`Decision` with the numbers it rests on, so that it can be made again from its record. Rules, in this order:

1. where instances came or went within the interval, nothing is decided;
2. fewer prefill workers where the queue was short on average;
3. fewer decode workers where their KV load was low on average, and none was asked for lately;
4. more prefill workers where the queue was long on average, and will be if it goes on as it did;
5. more decode workers where their KV load was high on average; then decode has grace for some intervals.

A worker's KV load is the part of its blocks that is in use, and 0.02 for each request that waits while others run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import msgspec

from dyno_runtime.settings import Planner

WAITING_WEIGHT = 0.02
TREND_INTERVALS = 3
GRACE_INTERVALS = 3


class Counts(msgspec.Struct, frozen=True):
    """Workers that are ready."""

    decode: int = 0
    prefill: int = 0


class Figures(msgspec.Struct, frozen=True):
    """What clients felt, for whoever reads the decision; no rule looks at it."""

    requests_per_s: float = 0.0
    tokens_per_s: float = 0.0
    first_token_p50_s: float | None = None
    first_token_p99_s: float | None = None
    between_tokens_p50_s: float | None = None
    between_tokens_p99_s: float | None = None


class Seen(msgspec.Struct, frozen=True):
    """One interval. `queue_…` are tasks in the prefill queue; None where nobody could be asked."""

    before: Counts
    now: Counts
    looks: int
    kv_load: float | None = None
    queue_mean: float | None = None
    queue_first: float | None = None
    queue_last: float | None = None
    figures: Figures = Figures()


class Wish(msgspec.Struct, frozen=True):
    """How many workers of a role there are and should be, and why."""

    now: int
    wish: int
    why: str


class Decision(msgspec.Struct, frozen=True):
    """`grace`: intervals in which decode is not made smaller, before and after. `prefill` is None without any."""

    rules: Planner
    seen: Seen
    grace_before: int
    decode: Wish
    prefill: Wish | None
    grace_after: int

    @property
    def changes(self) -> bool:
        """It wishes for something."""
        return any(wish.wish != wish.now for wish in (self.decode, self.prefill) if wish is not None)


def kv_load(usage: float, running: float, waiting: float) -> float:
    """Of one worker at one moment."""
    return usage + (WAITING_WEIGHT * waiting if running else 0.0)


class Window:
    """The looks of one interval. `before`: the workers at its beginning."""

    def __init__(self, before: Counts) -> None:
        self.before = before
        self._looks = 0
        self._queue: list[float] = []
        self._loads: list[float] = []

    def add(self, queue: float | None, loads: Sequence[float]) -> None:
        """One look: tasks in the prefill queue, and the KV load of each decode worker that answered."""
        self._looks += 1
        if queue is not None:
            self._queue.append(queue)
        self._loads += loads

    def seen(self, now: Counts, figures: Figures) -> Seen:
        """All of it."""
        queue, loads = self._queue, self._loads
        return Seen(
            self.before,
            now,
            self._looks,
            round(fmean(loads), 4) if loads else None,
            round(fmean(queue), 4) if queue else None,
            queue[0] if queue else None,
            queue[-1] if queue else None,
            figures,
        )


def decide(rules: Planner, seen: Seen, grace: int) -> Decision:
    """The rules of the module."""
    now = seen.now
    if seen.before != now:
        why = "workers came or went within the interval"
        prefill = Wish(now.prefill, now.prefill, why) if now.prefill or seen.before.prefill else None
        return Decision(rules, seen, grace, Wish(now.decode, now.decode, why), prefill, max(grace - 1, 0))
    most = math.inf if rules.max_gpus is None else rules.max_gpus
    budget = most - now.prefill * rules.prefill_gpus - now.decode * rules.decode_gpus
    fewer_prefill = _fewer_prefill(rules, seen) if now.prefill else None
    fewer_decode = _fewer_decode(rules, seen, grace)
    budget += (rules.prefill_gpus if fewer_prefill else 0) + (rules.decode_gpus if fewer_decode else 0)
    prefill = fewer_prefill or (_more_prefill(rules, seen, budget) if now.prefill else None)
    if prefill is not None and prefill.wish > now.prefill:
        budget -= rules.prefill_gpus
    decode = fewer_decode or _more_decode(rules, seen, grace, budget)
    grace_after = GRACE_INTERVALS if decode.wish > now.decode else max(grace - 1, 0)
    return Decision(rules, seen, grace, decode, prefill, grace_after)


def again(decision: Decision) -> Decision:
    """The same decision, made from its own record."""
    return decide(decision.rules, decision.seen, decision.grace_before)


def _fewer_prefill(rules: Planner, seen: Seen) -> Wish | None:
    mean, count = seen.queue_mean, seen.now.prefill
    if mean is None or mean >= rules.queue_down or count <= rules.min_workers:
        return None
    why = f"the prefill queue had {mean:g} tasks on average, below {rules.queue_down:g}"
    return Wish(count, count - 1, why)


def _more_prefill(rules: Planner, seen: Seen, budget: float) -> Wish:
    mean, first, last, count = seen.queue_mean, seen.queue_first, seen.queue_last, seen.now.prefill
    if mean is None or first is None or last is None:
        return Wish(count, count, "the prefill queue could not be asked")
    had = f"the prefill queue had {mean:g} tasks on average"
    if mean <= rules.queue_up:
        low = "at the minimum of workers" if mean < rules.queue_down else f"not above {rules.queue_up:g}"
        return Wish(count, count, f"{had}, {low}")
    expected = last + TREND_INTERVALS * (last - first)
    if expected <= rules.queue_up:
        return Wish(count, count, f"{had}, but goes down: {max(expected, 0):g} are to be expected")
    if budget < rules.prefill_gpus:
        return Wish(count, count, f"{had}, above {rules.queue_up:g}, but {_over(rules)}")
    return Wish(count, count + 1, f"{had}, above {rules.queue_up:g}")


def _fewer_decode(rules: Planner, seen: Seen, grace: int) -> Wish | None:
    load, count = seen.kv_load, seen.now.decode
    if load is None or load >= rules.kv_down or count <= rules.min_workers or grace:
        return None
    return Wish(count, count - 1, f"the KV load was {load:g} on average, below {rules.kv_down:g}")


def _more_decode(rules: Planner, seen: Seen, grace: int, budget: float) -> Wish:
    load, count = seen.kv_load, seen.now.decode
    if load is None:
        return Wish(count, count, "no decode worker could be asked")
    had = f"the KV load was {load:g} on average"
    if load <= rules.kv_up:
        if load >= rules.kv_down:
            return Wish(count, count, f"{had}, not above {rules.kv_up:g}")
        held = (
            f"intervals of grace left: {grace}" if count > rules.min_workers else "at the minimum of workers"
        )
        return Wish(count, count, f"{had}, {held}")
    if budget < rules.decode_gpus:
        return Wish(count, count, f"{had}, above {rules.kv_up:g}, but {_over(rules)}")
    return Wish(count, count + 1, f"{had}, above {rules.kv_up:g}")


def _over(rules: Planner) -> str:
    return f"one more would take more than {rules.max_gpus} GPUs"

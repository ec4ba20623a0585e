"""Which worker takes a request: one function for each policy, all with the same signature.

In: the `Request`, a `View` of the workers that may take it, and a source of random numbers. Out: a `Choice`,
with a score for every worker and a sentence that says why. A policy keeps nothing between two calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from dyno_runtime.core.load import WorkerLoad
from dyno_runtime.core.similar import most_similar
from dyno_runtime.wire.kv import BlockHash
from dyno_runtime.wire.messages import LeaseId

if TYPE_CHECKING:
    from random import Random

PolicyName = Literal["kv", "kv_classic", "prefix", "least_loaded", "round_robin", "random", "similar"]

# `prefix`: a match of less than this part of the prompt is a common system prompt, and no reason to crowd one worker.
PREFIX_AT_LEAST = 0.3
# `kv`, tuned by benchmarks/routing_study.py: each request in decode slows a prefill by this part,
RUNNING_SLOWS = 0.02
# new tokens count once more for this part of a request that waits on average at each worker,
LATER_WAIT = 2.0
NEW_AT_MOST = 20.0
# and a worker that did not say how fast it is counts as this fast.
NOMINAL_TOKENS_PER_S = 8000.0


class Request(msgspec.Struct, frozen=True, gc=False):
    """What is to be placed. `blocks` are the hashes of its full blocks; `prompt` is its text, for `similar` alone."""

    id: str
    model: str
    tokens: int
    blocks: Sequence[BlockHash] = ()
    excluded: frozenset[LeaseId] = frozenset()
    prompt: str = ""


class View(msgspec.Struct, frozen=True, gc=False):
    """The workers that may take the request, never none, and what is known of them.

    `matched` and `held` are in blocks; `matched` lacks those that hold nothing of the prompt. `turn` grows with
    each request, so that workers that are equally good take turns. `memory` is the first prompt of each worker,
    for `similar` alone.
    """

    workers: Sequence[LeaseId]
    loads: Mapping[LeaseId, WorkerLoad]
    matched: Mapping[LeaseId, int]
    held: Mapping[LeaseId, int]
    block_size: int
    turn: int = 0
    memory: Mapping[LeaseId, str] | None = None


class Choice(msgspec.Struct, frozen=True, gc=False):
    """The worker, why, and how many blocks of the prompt it holds.

    `because` is a form for `best`, and only spelt where somebody asks for `why`. `scores` are those of all workers in
    the view's order, none where the policy compares nothing. `teaches`: under `similar`, this is the worker's first
    prompt.
    """

    worker: LeaseId
    because: str
    matched: int = 0
    scores: Sequence[float] = ()
    best: float = 0.0
    teaches: bool = False

    @property
    def why(self) -> str:
        """A sentence for people."""
        return self.because.format(self.best)


Policy = Callable[[Request, View, "Random"], Choice]


def random(request: Request, view: View, rng: Random) -> Choice:
    """Any of them."""
    return _choice(view, rng.choice(view.workers), "drawn")


def round_robin(request: Request, view: View, rng: Random) -> Choice:
    """The next one."""
    return _choice(view, view.workers[view.turn % len(view.workers)], "its turn")


def least_loaded(request: Request, view: View, rng: Random) -> Choice:
    """The fewest requests, waiting or running."""
    counts = [view.loads[worker].requests for worker in view.workers]
    fewest = min(counts)
    worker = _in_turn(view, [one for one, count in zip(view.workers, counts, strict=True) if count == fewest])
    return _choice(view, worker, "{} requests there, the fewest", counts, fewest)


def prefix(request: Request, view: View, rng: Random) -> Choice:
    """The longest match; where nobody holds a good part of the prompt, the least loaded."""
    lengths = [view.matched.get(worker, 0) for worker in view.workers]
    longest = max(lengths)
    if longest == 0 or longest * view.block_size < PREFIX_AT_LEAST * request.tokens:
        other = least_loaded(request, view, rng)
        because = f"nobody holds enough of the prompt; {other.because}"
        return _choice(view, other.worker, because, lengths, other.best)
    worker = _emptiest(view, lengths, longest)
    return _choice(view, worker, "holds {} blocks of the prompt, the most", lengths, longest)


def kv(request: Request, view: View, rng: Random) -> Choice:
    """The least expected time to the first token."""
    costs = costs_of(request, view)
    least = min(costs)
    worker = _emptiest(view, costs, least)
    return _choice(view, worker, "costs {:.3f} s, the least", costs, least)


def kv_classic(request: Request, view: View, rng: Random) -> Choice:
    """2 · matched part of the prompt - KV usage - waiting / most waiting; the highest wins."""
    loads = [view.loads[worker] for worker in view.workers]
    most_waiting = max(load.waiting for load in loads) or 1
    per_block = 2.0 * view.block_size / max(request.tokens, 1)
    scores = [
        per_block * view.matched.get(worker, 0) - load.usage - load.waiting / most_waiting
        for worker, load in zip(view.workers, loads, strict=True)
    ]
    highest = max(scores)
    return _choice(view, _emptiest(view, scores, highest), "score {:.3f}, the highest", scores, highest)


def similar(request: Request, view: View, rng: Random) -> Choice:
    """The worker whose first prompt is the most alike; see `core.similar`."""
    pick = most_similar(request.prompt, view.workers, view.memory or {})
    because = "its first prompt" if pick.teaches else "its first prompt was the most alike"
    return Choice(pick.worker, because, view.matched.get(pick.worker, 0), teaches=pick.teaches)


def costs_of(request: Request, view: View) -> list[float]:
    """What the request costs at each worker: seconds until its first token, plus those that later ones wait for it.

    What is queued there and what is new for the worker is computed first, the slower the more requests decode
    beside it. What is new counts more the more requests wait, because it delays whoever comes next: see
    docs/routing.md.
    """
    loads = [view.loads[worker] for worker in view.workers]
    waiting = sum([load.waiting for load in loads]) / len(loads)
    weight = min(1.0 + LATER_WAIT * waiting, NEW_AT_MOST)
    # One token is computed even of a prompt that is all there.
    whole, saved, matched = weight * (request.tokens + 1), weight * view.block_size, view.matched
    return [
        (load.queued_tokens + whole - (saved * matched[worker] if worker in matched else 0.0))
        * (1.0 + RUNNING_SLOWS * load.running)
        / (load.prefill_tokens_per_s or NOMINAL_TOKENS_PER_S)
        for worker, load in zip(view.workers, loads, strict=True)
    ]


def _choice(
    view: View, worker: LeaseId, because: str, scores: Sequence[float] = (), best: float = 0.0
) -> Choice:
    return Choice(worker, because, view.matched.get(worker, 0), scores, best)


def _emptiest(view: View, scores: Sequence[float], best: float) -> LeaseId:
    """Of those that score best the one that holds the fewest blocks: it forgets the least for the new ones."""
    if scores.count(best) == 1:
        return view.workers[scores.index(best)]
    ties = [worker for worker, score in zip(view.workers, scores, strict=True) if score == best]
    fewest = min(view.held.get(worker, 0) for worker in ties)
    return _in_turn(view, [worker for worker in ties if view.held.get(worker, 0) == fewest])


def _in_turn(view: View, ties: Sequence[LeaseId]) -> LeaseId:
    """Equals take turns, so that a burst spreads even before the first of it shows in any load."""
    return ties[view.turn % len(ties)]


POLICIES: dict[PolicyName, Policy] = {
    "kv": kv,
    "kv_classic": kv_classic,
    "prefix": prefix,
    "least_loaded": least_loaded,
    "round_robin": round_robin,
    "random": random,
    "similar": similar,
}

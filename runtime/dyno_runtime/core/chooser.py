"""A router's mind for one model: who is there, what they hold, how loaded they are, and which policy decides.

In: workers that come and go, load reports, KV events, requests and how they go on, each with the time. Out: a
`Choice` or a `Refusal`, and a `KvAsk` where a worker should tell again what it holds. One `Chooser` for each
model of the cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from dyno_runtime.core.kv_feed import Feed
from dyno_runtime.core.load import LoadBook
from dyno_runtime.core.policies import POLICIES, Choice, PolicyName, Request, View
from dyno_runtime.core.prefix_index import MAX_BLOCKS, PrefixIndex
from dyno_runtime.core.similar import COMPARED_CHARS
from dyno_runtime.wire.kv import KvAsk, KvBatch, KvSnapshot, LoadReport
from dyno_runtime.wire.messages import LeaseId

if TYPE_CHECKING:
    from random import Random

# A block that a routed prompt should bring is believed to be there for this long, and for as long as its
# prefill may take.
EXPECT_S = 2.0
EXPECT_PER_TOKEN_S = 0.001


class BlockSizeDiffers(ValueError):
    """The worker cuts prompts into blocks of another size than this model's router."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as registered. `models` are the exact names that it serves: the model and its adapters.

    Where it makes a difference workers are taken in the order of their `place`, then of their lease.
    """

    lease: LeaseId
    models: frozenset[str]
    block_size: int
    draining: bool = False
    place: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """A worker at one of these takes nothing while another is below them; None: no limit. `usage` is from 0 to 1."""

    max_waiting: int | None = None
    max_usage: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nobody may take it, and why."""

    code: Literal["no_worker", "overloaded"]
    why: str


@dataclass(frozen=True, slots=True)
class Standing:
    """One worker in an explanation. `out`: why it may not take the request; then it has no score."""

    worker: LeaseId
    matched: int
    held: int
    running: int
    waiting: int
    queued_tokens: int
    usage: float
    score: float | None = None
    out: str | None = None


class Chooser:
    """See the module. Workers that are not known (any more) are ignored wherever they are named."""

    def __init__(
        self,
        block_size: int,
        policy: PolicyName,
        rng: Random,
        limits: Limits | None = None,
        max_blocks: int = MAX_BLOCKS,
    ) -> None:
        self.block_size = block_size
        self.policy: PolicyName = policy  # may be changed at any time
        self.limits = limits or Limits()
        self.index = PrefixIndex(max_blocks)
        self.loads = LoadBook()
        self.memory: dict[LeaseId, str] = {}
        self._rng = rng
        self._workers: dict[LeaseId, Worker] = {}
        self._ready: dict[str, list[LeaseId]] = {}  # by the model's name
        self._feeds: dict[LeaseId, Feed] = {}
        # Routers that start together must not give their first requests to the same worker.
        self._turn = rng.randrange(1 << 16)

    # ---- workers ---------------------------------------------------------------------------------------

    def seen(self, worker: Worker, now_s: float) -> KvAsk | None:
        """A worker came, or says something new of itself; a new one is asked what it holds.

        Raises:
            BlockSizeDiffers: it cannot be compared with the others of this model, and gets no requests.
        """
        if worker.block_size != self.block_size:
            self.gone(worker.lease)
            raise BlockSizeDiffers(
                f"worker {worker.lease} has blocks of {worker.block_size} tokens, the others of its model have "
                f"{self.block_size}: it gets no requests; give all workers of a model the same engine.block_size"
            )
        new = worker.lease not in self._workers
        self._workers[worker.lease] = worker
        self._sort()
        if not new:
            return None
        self.index.add(worker.lease)
        self.loads.add(worker.lease)
        self._feeds[worker.lease] = Feed()
        return self._feeds[worker.lease].join(now_s)

    def gone(self, worker: LeaseId) -> None:
        """The worker's lease ended."""
        if self._workers.pop(worker, None) is None:
            return
        self._sort()
        self.index.remove(worker)
        self.loads.remove(worker)
        del self._feeds[worker]
        self.memory.pop(worker, None)

    # ---- what workers tell -----------------------------------------------------------------------------

    def report(self, worker: LeaseId, report: LoadReport, now_s: float) -> None:
        """A load report."""
        if worker in self._feeds:
            self.loads.report(worker, report, now_s)
            self._feeds[worker].heard(report.kv_seq, now_s)

    def batch(self, worker: LeaseId, batch: KvBatch, now_s: float) -> KvAsk | None:
        """A batch of KV events, as it was sent to everybody."""
        feed = self._feeds.get(worker)
        if feed is None:
            return None
        ready, ask = feed.take(batch, now_s)
        self._apply(worker, ready)
        return ask

    def answer(self, worker: LeaseId, answer: Sequence[KvBatch] | KvSnapshot) -> None:
        """The answer to a `KvAsk`."""
        feed = self._feeds.get(worker)
        if feed is None:
            return
        if not isinstance(answer, KvSnapshot):
            self._apply(worker, feed.replay(answer))
            return
        ready = feed.snapshot(answer)
        if ready is not None:
            self.index.clear(worker)
            self.index.store(worker, answer.held)
            self._apply(worker, ready)

    def tick(self, now_s: float) -> list[tuple[LeaseId, KvAsk]]:
        """Let go of what is too old; what has to be asked (again). Call it a few times a second."""
        self.index.expire(now_s)
        self.loads.expire(now_s)
        asks = ((worker, feed.due(now_s)) for worker, feed in self._feeds.items())
        return [(worker, ask) for worker, ask in asks if ask is not None]

    def _apply(self, worker: LeaseId, batches: Sequence[KvBatch]) -> None:
        for batch in batches:
            if batch.cleared:
                self.index.clear(worker)
            if batch.removed:
                self.index.drop(worker, batch.removed)
            if batch.stored:
                self.index.store(worker, batch.stored)

    # ---- requests --------------------------------------------------------------------------------------

    def choose(self, request: Request) -> Choice | Refusal:
        """Where the request would go now. Changes nothing but whose turn it is."""
        workers = self._able(request)
        if isinstance(workers, Refusal):
            return workers
        self._turn += 1
        return POLICIES[self.policy](request, self._view(request, workers), self._rng)

    def routed(self, request: Request, choice: Choice, now_s: float) -> None:
        """The request is sent where `choose` said. Follow it with `begun` and `ended`, or with `ended` alone."""
        new = max(request.tokens - choice.matched * self.block_size, 1)
        held = -(-request.tokens // self.block_size)
        load = self.loads.workers.get(choice.worker)
        if load is None:
            return
        wait_s = (load.queued_tokens + new) * EXPECT_PER_TOKEN_S
        self.loads.routed(request.id, choice.worker, new, held, now_s)
        self.index.expect(choice.worker, request.blocks, now_s + EXPECT_S + wait_s)
        if choice.teaches:
            self.memory.setdefault(choice.worker, request.prompt[:COMPARED_CHARS])

    def begun(self, request: str, now_s: float) -> None:
        """Its first token came."""
        self.loads.begun(request, now_s)

    def ended(self, request: str, now_s: float) -> None:
        """It is answered, failed, or cancelled. Ids that are not in flight are ignored."""
        self.loads.ended(request, now_s)

    def explain(self, request: Request) -> tuple[Choice | Refusal, list[Standing]]:
        """Where the request would go, and how every worker stands. Leaves no trace at all."""
        turn, state = self._turn, self._rng.getstate()
        choice = self.choose(request)
        self._turn = turn
        self._rng.setstate(state)
        scores: dict[LeaseId, float] = {}
        able = self._able(request)
        if isinstance(choice, Choice) and not isinstance(able, Refusal):
            scores = dict(zip(able, choice.scores, strict=False))
        matched = self.index.match(request.blocks)
        standings = [self._standing(worker, request, matched) for worker in self._workers.values()]
        return choice, [replace(one, score=scores.get(one.worker)) for one in standings]

    # ---- within ----------------------------------------------------------------------------------------

    def _sort(self) -> None:
        self._ready = {}
        for worker in sorted(self._workers.values(), key=lambda one: (one.place, one.lease)):
            for model in () if worker.draining else worker.models:
                self._ready.setdefault(model, []).append(worker.lease)

    def _view(self, request: Request, workers: Sequence[LeaseId]) -> View:
        matched = self.index.match(request.blocks)
        return View(
            workers, self.loads.workers, matched, self.index.held, self.block_size, self._turn, self.memory
        )

    def _able(self, request: Request) -> Sequence[LeaseId] | Refusal:
        """Who may take the request."""
        willing = self._ready.get(request.model, [])
        if request.excluded:
            willing = [one for one in willing if one not in request.excluded]
        if not willing:
            return Refusal("no_worker", f"no worker that serves {request.model} may take the request")
        if self.limits.max_waiting is None and self.limits.max_usage is None:
            return willing
        below = [one for one in willing if self._full(one) is None]
        return below or Refusal("overloaded", f"all workers that serve {request.model} are full")

    def _full(self, worker: LeaseId) -> str | None:
        load, limits = self.loads.workers[worker], self.limits
        if limits.max_waiting is not None and load.waiting >= limits.max_waiting:
            return f"full: {load.waiting} requests wait"
        if limits.max_usage is not None and load.usage >= limits.max_usage:
            return f"full: {load.usage:.0%} of its KV blocks are in use"
        return None

    def _out(self, worker: Worker, request: Request) -> str | None:
        if worker.draining:
            return "draining"
        if request.model not in worker.models:
            return f"does not serve {request.model}"
        if worker.lease in request.excluded:
            return "excluded by the caller"
        return self._full(worker.lease)

    def _standing(self, worker: Worker, request: Request, matched: dict[LeaseId, int]) -> Standing:
        load = self.loads.workers[worker.lease]
        return Standing(
            worker=worker.lease,
            matched=matched.get(worker.lease, 0),
            held=self.index.held[worker.lease],
            running=load.running,
            waiting=load.waiting,
            queued_tokens=load.queued_tokens,
            usage=load.usage,
            out=self._out(worker, request),
        )

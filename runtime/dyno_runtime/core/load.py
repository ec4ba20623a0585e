"""How loaded each worker is, as one router sees it: what workers report, and what this router itself did since.

In: `LoadReport`s; requests routed, begun (first token) and ended, with the time of each. Out: one `WorkerLoad`
a worker. A report replaces what was believed, except for what this router did so shortly before that the report
cannot know of it yet. Where no reports come, only what this router did counts, and that returns to zero with
its last request.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from dyno_runtime.wire.kv import LoadReport
from dyno_runtime.wire.messages import LeaseId

# What was done this shortly before a report came is not in it: the way to the worker, and the way back.
UNSEEN_S = 0.025
STALE_S = 3.0

# What came (or, negative, went) of each of the four counts of `Work`.
Change = tuple[int, int, int, int]


@dataclass(slots=True)
class Work:
    """Counted work: requests in decode, requests before their first token, prompt tokens to compute, KV blocks
    in use."""

    running: int = 0
    waiting: int = 0
    queued_tokens: int = 0
    active_blocks: int = 0

    def add(self, change: Change) -> None:
        """Work came, or went."""
        self.running += change[0]
        self.waiting += change[1]
        self.queued_tokens += change[2]
        self.active_blocks += change[3]


@dataclass(slots=True)
class WorkerLoad:
    """What policies look at. The first four are never below zero; `requests` is running plus waiting."""

    running: int = 0
    waiting: int = 0
    queued_tokens: int = 0
    active_blocks: int = 0
    total_blocks: int = 0
    prefill_tokens_per_s: float = 0.0
    reported_s: float | None = None  # when the last report came; None: never, or too long ago
    believed: Work = field(default_factory=Work)
    own: Work = field(default_factory=Work)  # of this router's requests alone, exact
    recent: deque[tuple[float, Change]] = field(default_factory=deque)

    @property
    def requests(self) -> int:
        """All requests there."""
        return self.running + self.waiting

    @property
    def usage(self) -> float:
        """The part of the KV blocks that requests use, from 0 to 1; 0 where the worker never said how many it has."""
        return min(self.active_blocks / self.total_blocks, 1.0) if self.total_blocks else 0.0

    def changed(self, change: Change, now_s: float) -> None:
        """This router did something: it is in no report yet."""
        recent, seen_s = self.recent, now_s - UNSEEN_S
        recent.append((now_s, change))
        while recent[0][0] < seen_s:
            recent.popleft()
        # Done three times for each request, so without a call for each of these.
        own, believed = self.own, self.believed
        running, waiting, tokens, blocks = change
        if running:
            own.running += running
            believed.running = now = believed.running + running
            self.running = now if now > 0 else 0
        if waiting:
            own.waiting += waiting
            believed.waiting = now = believed.waiting + waiting
            self.waiting = now if now > 0 else 0
        if tokens:
            own.queued_tokens += tokens
            believed.queued_tokens = now = believed.queued_tokens + tokens
            self.queued_tokens = now if now > 0 else 0
        if blocks:
            own.active_blocks += blocks
            believed.active_blocks = now = believed.active_blocks + blocks
            self.active_blocks = now if now > 0 else 0

    def replace(self, seen: Work, now_s: float | None) -> None:
        """A report came at `now_s`, or, with None, reports stopped coming."""
        self.believed = seen
        if now_s is not None:
            while self.recent and self.recent[0][0] < now_s - UNSEEN_S:
                self.recent.popleft()
            for _, change in self.recent:
                seen.add(change)
        self.reported_s = now_s
        self._show()

    def _show(self) -> None:
        # A request may begin or end in a report before this router hears of it, and is taken away twice then.
        self.running = max(self.believed.running, 0)
        self.waiting = max(self.believed.waiting, 0)
        self.queued_tokens = max(self.believed.queued_tokens, 0)
        self.active_blocks = max(self.believed.active_blocks, 0)


@dataclass(slots=True)
class _Errand:
    """One request on its way."""

    worker: LeaseId
    tokens: int
    blocks: int
    begun: bool = False


class LoadBook:
    """All workers of one model. Requests are known by their id from `routed` to `ended`; other ids are ignored."""

    def __init__(self) -> None:
        self.workers: dict[LeaseId, WorkerLoad] = {}
        self._errands: dict[str, _Errand] = {}

    def __len__(self) -> int:
        """How many requests of this router are in flight."""
        return len(self._errands)

    def add(self, worker: LeaseId) -> None:
        """A worker that does nothing yet. One that is there already stays as it is."""
        self.workers.setdefault(worker, WorkerLoad())

    def remove(self, worker: LeaseId) -> None:
        """The worker is gone, with its requests."""
        if self.workers.pop(worker, None) is not None:
            self._errands = {key: one for key, one in self._errands.items() if one.worker != worker}

    def report(self, worker: LeaseId, report: LoadReport, now_s: float) -> None:
        """The worker says how loaded it is."""
        load = self.workers.get(worker)
        if load is None:
            return
        load.total_blocks = report.total_blocks
        load.prefill_tokens_per_s = report.prefill_tokens_per_s
        seen = Work(report.running, report.waiting, report.queued_tokens, report.active_blocks)
        load.replace(seen, now_s)

    def routed(self, request: str, worker: LeaseId, tokens: int, blocks: int, now_s: float) -> None:
        """The request goes to the worker: `tokens` to compute there, and `blocks` of KV to hold for it."""
        self.ended(request, now_s)  # a retry: it is nowhere else any more
        load = self.workers.get(worker)
        if load is not None:
            self._errands[request] = _Errand(worker, tokens, blocks)
            load.changed((0, 1, tokens, blocks), now_s)

    def begun(self, request: str, now_s: float) -> None:
        """Its first token came."""
        errand = self._errands.get(request)
        if errand is not None and not errand.begun:
            errand.begun = True
            self.workers[errand.worker].changed((1, -1, -errand.tokens, 0), now_s)

    def ended(self, request: str, now_s: float) -> None:
        """It is answered, failed, or nobody wants it any more."""
        errand = self._errands.pop(request, None)
        if errand is not None:
            blocks = -errand.blocks
            gone = (-1, 0, 0, blocks) if errand.begun else (0, -1, -errand.tokens, blocks)
            self.workers[errand.worker].changed(gone, now_s)

    def expire(self, now_s: float) -> None:
        """Stop believing reports that are too old. Call it from time to time."""
        for load in self.workers.values():
            if load.reported_s is not None and load.reported_s < now_s - STALE_S:
                load.replace(replace(load.own), None)

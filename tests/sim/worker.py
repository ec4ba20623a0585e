"""A simulated worker: continuous batching, where prefill and decode share every step and so slow each other.

In: jobs, cancelled jobs. Out: for each job its first token and its end, batches of KV events, the load. A step takes
`step_base_s`, plus `step_request_s` for each request in decode, plus the time of the prompt tokens in it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from dyno_runtime.wire.kv import KvBatch, LoadReport
from tests.sim.cache import Cache, Lease
from tests.sim.clock import Clock


@dataclass(frozen=True)
class Machine:
    """What one worker can do. A step holds at most `step_tokens`, those of decode first."""

    prefill_tokens_per_s: float = 6500.0
    step_base_s: float = 0.006
    step_request_s: float = 0.00035
    step_tokens: int = 2048
    max_running: int = 256
    blocks: int = 1500
    block_size: int = 512


@dataclass(slots=True, eq=False)
class Job:
    """One request at one worker. `hashes` are those of its full blocks; it knows what became of it."""

    id: str
    tokens: int
    output: int
    hashes: list[int]
    first: Callable[[], None]
    end: Callable[[], None]
    computed: int = 0
    matched: int = 0
    lease: Lease | None = None
    over: bool = False


class SimWorker:
    """See the module."""

    def __init__(self, name: str, machine: Machine, clock: Clock, tell: Callable[[KvBatch], None]) -> None:
        self.name = name
        self.machine = machine
        self.cache = Cache(machine.blocks)
        self.alive = True
        self.gaps_ms: Counter[int] = Counter()  # between tokens, and how many of each
        self._clock = clock
        self._tell = tell
        self._waiting: deque[Job] = deque()
        self._prefilling: deque[Job] = deque()
        self._running = 0
        self._finishing: list[tuple[int, int, Job]] = []
        self._jobs: dict[str, Job] = {}
        self._step = 0
        self._count = 0
        self._wake = 0  # the number of the planned end of steps that counts; others are outdated
        self._steps: tuple[float, float, int] | None = None  # since when, how long each, how many at once
        self._chunks: list[tuple[Job, int]] = []

    # ---- from outside ----------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Take a job."""
        assert job.tokens + job.output <= self.machine.blocks * self.machine.block_size
        self._jobs[job.id] = job
        self._waiting.append(job)
        self._hurry()

    def cancel(self, job_id: str) -> None:
        """Forget a job, with its blocks, now."""
        job = self._jobs.pop(job_id, None)
        if job is None:
            return
        job.over = True
        if job in self._waiting:
            self._waiting.remove(job)
        elif job in self._prefilling:
            self._prefilling.remove(job)
        else:
            self._running -= 1
        if job.lease is not None:
            self.cache.release(job.lease)
        self._hurry()

    def die(self) -> list[Job]:
        """Gone, with all jobs; these were lost."""
        self.alive = False
        self._wake += 1
        return list(self._jobs.values())

    def clear(self) -> None:
        """Forget the whole cache, if no job uses any of it."""
        if not self._jobs:
            self.cache.clear()
            self._flush()

    def report(self) -> LoadReport:
        """The load right now."""
        queued = sum(job.tokens for job in self._waiting)
        queued += sum(job.tokens - job.computed for job in self._prefilling)
        waiting = len(self._waiting) + len(self._prefilling)
        return LoadReport(
            self._running, waiting, queued, self.cache.active, self.machine.blocks, 0.0, self.cache.ledger.seq
        )

    # ---- steps -----------------------------------------------------------------------------------------

    def _hurry(self) -> None:
        """Something changed: the next step has to see it."""
        if self._steps is None:
            self._begin()
            return
        since_s, each_s, count = self._steps
        if count > 1:
            done = int((self._clock.now_s - since_s) / each_s) + 1
            if done < count:
                self._plan(since_s, each_s, done)

    def _begin(self) -> None:
        """Choose what the next step computes; decode alone goes on for several steps at once."""
        machine = self.machine
        room = max(machine.step_tokens - self._running, 1)
        self._chunks = []
        while room:
            job = self._next_prefill(len(self._chunks))
            if job is None:
                break
            tokens = min(room, job.tokens - job.computed)
            self._chunks.append((job, tokens))
            room -= tokens
        if not self._chunks and not self._running:
            self._steps = None
            return
        prefilled = sum(tokens for _, tokens in self._chunks)
        each_s = machine.step_base_s + machine.step_request_s * self._running
        each_s += prefilled / machine.prefill_tokens_per_s
        count = 1
        if not self._chunks:
            while self._finishing[0][2].over:
                heappop(self._finishing)
            count = max(self._finishing[0][0] - self._step, 1)
        self._plan(self._clock.now_s, each_s, count)

    def _next_prefill(self, place: int) -> Job | None:
        if place < len(self._prefilling):
            return self._prefilling[place]
        if not self._waiting or self._running + len(self._prefilling) >= self.machine.max_running:
            return None
        job, size = self._waiting[0], self.machine.block_size
        # At least one token is always computed, or there would be nothing to go on from.
        most = (job.tokens - 1) // size
        got = self.cache.acquire(job.hashes, most, -(-(job.tokens + job.output) // size))
        if got is None:
            return None
        job.lease, job.matched = got
        job.computed = job.matched * size
        self._waiting.popleft()
        self._prefilling.append(job)
        return job

    def _plan(self, since_s: float, each_s: float, count: int) -> None:
        self._steps = (since_s, each_s, count)
        self._wake += 1
        self._clock.after(max(since_s + each_s * count - self._clock.now_s, 0.0), self._end, self._wake)

    def _end(self, wake: int) -> None:
        if wake != self._wake or self._steps is None:
            return
        _, each_s, count = self._steps
        self._step += count
        self.gaps_ms[round(each_s * 1000)] += count * self._running
        self._finish_decode()
        self._finish_prefill()
        self._flush()
        self._begin()

    def _flush(self) -> None:
        batch = self.cache.ledger.flush()
        if batch is not None:
            self._tell(batch)

    def _finish_decode(self) -> None:
        while self._finishing and self._finishing[0][0] <= self._step:
            job = heappop(self._finishing)[2]
            if not job.over:
                self._running -= 1
                self._over(job)

    def _finish_prefill(self) -> None:
        size = self.machine.block_size
        for job, tokens in self._chunks:
            if job.over:
                continue
            assert job.lease is not None
            before, job.computed = job.computed // size, job.computed + tokens
            for block in job.hashes[before : job.computed // size]:
                self.cache.computed(job.lease, block)
            if job.computed >= job.tokens:
                self._prefilling.remove(job)
                job.first()
                if job.output > 1:
                    self._running += 1
                    self._count += 1
                    heappush(self._finishing, (self._step + job.output - 1, self._count, job))
                else:
                    self._over(job)
        self._chunks = []

    def _over(self, job: Job) -> None:
        job.over = True
        del self._jobs[job.id]
        assert job.lease is not None
        self.cache.release(job.lease)
        job.end()

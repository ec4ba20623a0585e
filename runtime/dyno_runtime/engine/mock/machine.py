"""The scheduler in time: steps that end when they are due, transfers that take their time, faults that happen.

In: jobs, and timers: those of an event loop, or of a simulation. Out: outputs through `deliver`, KV events through
`on_kv`. Steps follow each other without a pause: the next one begins when the last one was due, not when a timer
fired late. At speedup inf there is no timer, only turns of the loop with a bounded number of tokens each.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable
from math import inf, isfinite
from typing import Any, Protocol

from dyno_runtime.engine.base import (
    BadJob,
    Deliver,
    Emit,
    EngineError,
    Job,
    KvEvents,
    OnKv,
    Output,
    Overloaded,
    Stats,
    Totals,
)
from dyno_runtime.engine.mock.args import Faults
from dyno_runtime.engine.mock.scheduler import Scheduler, Step
from dyno_runtime.engine.mock.sequence import Sequence
from dyno_runtime.wire.kv import BlockHash

log = logging.getLogger("dyno.mock")

MOST_LATE_S = 0.1  # what the machine was late by more than this is lost, not caught up
DIED = 70
WAITS_KEPT = 4096
PREFILL_WEIGHT = 64  # so many prefill tokens are as much work for this process as one output

Done = Callable[[dict[str, Any] | EngineError | None], None]


class Handle(Protocol):
    """Something that is planned."""

    def cancel(self) -> None:
        """Not any more."""


class Timers(Protocol):
    """The part of an event loop that is needed here."""

    def time(self) -> float:
        """Now, in seconds."""

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Call it then."""

    def call_soon(self, callback: Callable[..., object], *args: Any) -> Handle:
        """Call it in the next turn."""


class Machine:
    """See the module. `early_s`: a step that is due so soon counts as done, where timers are no finer than that."""

    def __init__(
        self,
        scheduler: Scheduler,
        timers: Timers,
        *,
        early_s: float = 0.0,
        exit: Callable[[int], object] = os._exit,
    ) -> None:
        self.deliver: Deliver | None = None
        self.on_kv: OnKv | None = None
        self.scheduler = scheduler
        self.args = scheduler.args
        self.faults = scheduler.args.faults
        self.kv_seq = 0
        self._timers = timers
        self._early_s = early_s
        self._exit = exit
        self._factor = self.args.factor
        self._step: Step | None = None
        self._due_s = -inf  # when the step under way ends, or when the last one ended
        self._busy = False  # `_run` is planned
        self._closed = False
        self._emits: dict[Job, Emit] = {}  # of jobs that do not go through `deliver`
        self._dones: dict[Job, Done] = {}
        self._link_free_s = -inf
        self._stuck: list[tuple[Sequence, Done, int]] = []  # transfers that should be over but hang
        self._expiries: dict[str, Handle] = {}
        self._counts: Counter[str] = Counter()
        self._told = 0
        self._waits: deque[float] = deque(maxlen=WAITS_KEPT)
        self._sent_bytes = self._received_bytes = self._transfers = self._failed_transfers = 0

    # ---- from outside ----------------------------------------------------------------------------------

    def generate(self, job: Job, emit: Emit | None = None) -> None:
        """See `Engine`."""
        self._reject()
        brought = job.kv if self.scheduler.find(job.id) is not None else None
        if brought is not None:
            self._check_kv(job, brought)
        sequence = self.scheduler.submit(job)
        sequence.waits_since_s = self._timers.time()
        if brought is not None:
            self._transfers += 1
            self._received_bytes += brought.get("bytes", 0)
        if (expiry := self._expiries.pop(job.id, None)) is not None:
            expiry.cancel()
        if emit is not None:
            self._emits[job] = emit
        sequence.doomed = self._hits("fail", self.faults.fail_every)
        sequence.silent = self._hits("silent", self.faults.silent_every)
        self._tell_kv()
        self._wake()

    def prefill(self, job: Job, done: Done) -> None:
        """Compute the job's KV and bring it to where `job.kv` says; then `done`. Raises EngineError."""
        self._reject()
        sequence = self.scheduler.submit(job, for_other=True)
        sequence.waits_since_s = self._timers.time()
        sequence.doomed = self._hits("fail", self.faults.fail_every)
        self._dones[job] = done
        self._wake()

    def reserve(self, job: Job) -> dict[str, Any] | None:
        """See `KvHolder`."""
        sequence = self.scheduler.reserve(job)
        self._tell_kv()
        if sequence is None:
            return None
        expires_s = self._timers.time() + self.args.reserve_s
        self._expiries[job.id] = self._timers.call_at(expires_s, self._expire, sequence)
        return {"engine": "mock", "blocks": sequence.blocks[:], "cached_tokens": sequence.computed}

    def abort(self, job_id: str, *, for_other: bool = False) -> None:
        """See `Engine`; or a prefill for somebody else, and then its `done` is not called."""
        sequence = self.scheduler.find(job_id, for_other=for_other)
        if sequence is None:
            return
        self._emits.pop(sequence.job, None)
        self._dones.pop(sequence.job, None)
        if not for_other and (expiry := self._expiries.pop(job_id, None)) is not None:
            expiry.cancel()
        self.scheduler.end(sequence)
        self._wake()

    def inject(self, faults: Faults) -> None:
        """From now on these faults, and no others."""
        log.warning("faults from now on: %s", faults)
        self.faults = faults
        self._counts.clear()
        self._told = 0
        stuck, self._stuck = self._stuck, []
        for transfer in stuck:
            self._arrive(*transfer)
        self._wake()

    def clear_cache(self) -> None:
        """Forget all prefixes."""
        self.scheduler.cache.clear()
        self._tell_kv()

    def held(self) -> tuple[int, list[BlockHash]]:
        """See `KvHolder`."""
        self._tell_kv()
        return self.kv_seq, self.scheduler.cache.held()

    def stats(self) -> Stats:
        """See `Engine`."""
        rate = self.args.prefill_tokens_per_s * self._factor / self.faults.slow
        return self.scheduler.stats(rate if isfinite(rate) else 0.0)

    def totals(self) -> Totals:
        """See `Counting`."""
        scheduler = self.scheduler
        return Totals(
            computed_tokens=scheduler.computed_tokens,
            local_cache_hit_tokens=scheduler.cached_tokens,
            external_kv_transfer_tokens=scheduler.brought_tokens,
            preemptions=scheduler.preemptions,
            kv_sent_bytes=self._sent_bytes,
            kv_received_bytes=self._received_bytes,
            kv_transfers=self._transfers,
            failed_kv_transfers=self._failed_transfers,
        )

    def take_waits(self) -> list[float]:
        """See `Counting`."""
        waits = list(self._waits)
        self._waits.clear()
        return waits

    def close(self) -> None:
        """Nothing happens any more."""
        self._closed = True
        self._emits.clear()
        self._dones.clear()
        for expiry in self._expiries.values():
            expiry.cancel()
        self._expiries.clear()
        self.scheduler.end_all()

    # ---- steps -----------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._busy and not self._closed:
            self._busy = True
            if self._step is None:
                self._due_s = self._timers.time()
            self._timers.call_soon(self._run)

    def _run(self) -> None:
        """All steps that are over by now; then wait for the next one."""
        made = 0
        while made < self.args.turn_tokens:
            if self._closed or self.faults.hang or self._dies():
                self._busy = False
                return
            now_s = self._timers.time()
            if self._step is None:
                self._step = self.scheduler.decide()
                if self._step is None:
                    self._tell_kv()
                    self._busy = False
                    return
                self._begun(self._step, now_s)
                begun_s = max(self._due_s, now_s - MOST_LATE_S)
                self._due_s = begun_s + self._step.duration_s * self.faults.slow / self._factor
            if self._due_s > now_s + self._early_s:
                self._timers.call_at(self._due_s, self._run)
                return
            step, self._step = self._step, None
            made += self._absorb(step)
        self._timers.call_soon(self._run)

    def _begun(self, step: Step, now_s: float) -> None:
        for sequence, _ in step.chunks:
            if sequence.waits_since_s is not None:
                self._waits.append(now_s - sequence.waits_since_s)
                sequence.waits_since_s = None

    def _absorb(self, step: Step) -> int:
        """The step is over. Returns how much work that was, in outputs."""
        outputs = self.scheduler.absorb(step)
        for sequence in self.scheduler.take_prefilled():
            self._send(sequence)
        self._tell_kv()
        if outputs:
            self._tell(outputs)
        return len(outputs) + step.prefill_tokens // PREFILL_WEIGHT + 1

    def _tell(self, outputs: list[Output]) -> None:
        self._told += len(outputs)
        if self._emits or self._dones:
            outputs = [output for output in outputs if not self._tell_alone(output)]
        if outputs and self.deliver is not None:
            try:
                self.deliver(outputs)
            except Exception:
                # The engine serves others, too, and must not stop because of one caller.
                log.exception("the outputs of a step were lost")

    def _tell_alone(self, output: Output) -> bool:
        job = output.job
        assert job is not None
        if (done := self._dones.pop(job, None)) is not None:
            done(EngineError(output.error or "the prefill failed"))
            return True
        emit = self._emits.get(job)
        if emit is None:
            return False
        if output.finish is not None:
            del self._emits[job]
        emit(output)
        return True

    def _tell_kv(self) -> None:
        changes = self.scheduler.cache.flush()
        if not changes:
            return
        self.kv_seq += 1
        if self.on_kv is None or self._hits("drop_kv", self.faults.drop_kv_every):
            return
        events = KvEvents(self.kv_seq, changes)
        self.on_kv(events)
        if self._hits("repeat_kv", self.faults.repeat_kv_every):
            self.on_kv(events)

    # ---- prefill for others ----------------------------------------------------------------------------

    def _send(self, sequence: Sequence) -> None:
        """Its KV is there: bring it to the one that waits for it, over a link that all transfers share."""
        done = self._dones.pop(sequence.job)
        place = sequence.job.kv
        if place is None:
            self.scheduler.end(sequence)
            done(None)
            return
        there = place.get("cached_tokens", 0)
        sent_bytes = max(len(sequence.job.tokens) - there, 0) * self.args.bytes_per_token
        begun_s = max(self._timers.time(), self._link_free_s)
        takes_s = sent_bytes / self.args.transfer_bytes_per_s * self.faults.slow / self._factor
        self._link_free_s = begun_s + takes_s
        self._timers.call_at(self._link_free_s, self._arrive, sequence, done, sent_bytes)

    def _arrive(self, sequence: Sequence, done: Done, sent_bytes: int) -> None:
        if sequence.phase != "holding":
            return
        if self.faults.hang:
            self._stuck.append((sequence, done, sent_bytes))
            return
        job, cached = sequence.job, sequence.cached or 0
        self.scheduler.end(sequence)
        self._wake()
        if self._hits("fail_transfer", self.faults.fail_transfer_every):
            self._failed_transfers += 1
            done(EngineError("the mock engine was told to fail this transfer"))
        else:
            self._sent_bytes += sent_bytes
            prompt = self.scheduler.fingerprint(job)
            done({"engine": "mock", "prompt": prompt, "cached_tokens": cached, "bytes": sent_bytes})

    def _check_kv(self, job: Job, kv: dict[str, Any]) -> None:
        if kv.get("engine") != "mock" or kv.get("prompt") != self.scheduler.fingerprint(job):
            raise BadJob(f"the KV that came for job {job.id} is not that of its prompt")

    def _expire(self, sequence: Sequence) -> None:
        if sequence.phase == "reserved":
            log.warning("job %s: its blocks were set aside for too long", sequence.job.id)
            self.abort(sequence.job.id)

    # ---- faults ----------------------------------------------------------------------------------------

    def _hits(self, what: str, every: int) -> bool:
        """This is one of each `every`."""
        if not every:
            return False
        self._counts[what] += 1
        return self._counts[what] % every == 0

    def _reject(self) -> None:
        if self._hits("reject", self.faults.reject_every):
            raise Overloaded("the mock engine was told to refuse this request")

    def _dies(self) -> bool:
        limit = self.faults.die_after_tokens
        if not self.faults.die and (limit is None or self._told < limit):
            return False
        log.error("the mock engine was told to die")
        self._closed = True
        self._exit(DIED)
        return True

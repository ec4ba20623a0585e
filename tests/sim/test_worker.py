"""The simulated worker does what its numbers say: the study rests on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dyno_runtime.wire.kv import KvBatch
from tests.sim.clock import Clock
from tests.sim.worker import Job, Machine, SimWorker

MACHINE = Machine(
    prefill_tokens_per_s=1000.0,
    step_base_s=0.01,
    step_request_s=0.001,
    step_tokens=100,
    max_running=4,
    blocks=20,
    block_size=10,
)


class Bench:
    """One worker, and when each job began and ended."""

    def __init__(self, machine: Machine = MACHINE) -> None:
        self.clock = Clock()
        self.told: list[KvBatch] = []
        self.worker = SimWorker("w", machine, self.clock, self.told.append)
        self.first: dict[str, float] = {}
        self.end: dict[str, float] = {}

    def submit(self, name: str, tokens: int, output: int, hashes: list[int] | None = None) -> Job:
        def first() -> None:
            self.first[name] = self.clock.now_s

        def end() -> None:
            self.end[name] = self.clock.now_s

        job = Job(name, tokens, output, hashes or [], first, end)
        self.worker.submit(job)
        return job

    def run(self) -> None:
        self.clock.run(self.clock.now_s + 100.0)
        self.worker.cache.check()


def test_a_prompt_takes_its_tokens_and_one_base_time_a_step():
    bench = Bench()
    bench.submit("a", 150, 1)
    bench.run()
    assert bench.first == bench.end == {"a": pytest.approx(0.15 + 2 * 0.01)}


def test_decode_takes_a_step_a_token():
    bench = Bench()
    bench.submit("a", 100, 11)
    bench.run()
    assert bench.first["a"] == pytest.approx(0.11)
    assert bench.end["a"] - bench.first["a"] == pytest.approx(10 * 0.011)
    assert dict(bench.worker.gaps_ms) == {11: 10, 110: 0}


def test_a_prefill_slows_those_that_decode_and_they_slow_it():
    bench = Bench(replace(MACHINE, blocks=100))
    bench.submit("a", 10, 50)
    bench.clock.run(0.1)
    bench.submit("b", 198, 1)
    bench.run()
    # Two steps of 99 tokens beside one request in decode, from the next step's begin on.
    assert bench.first["b"] - 0.1 == pytest.approx(2 * (0.01 + 0.001 + 0.099), abs=0.011)
    assert bench.worker.gaps_ms[110] == 2
    assert sum(bench.worker.gaps_ms.values()) == 49


def test_a_job_that_joins_does_not_shift_the_tokens_of_others():
    alone, joined = Bench(), Bench()
    for bench in (alone, joined):
        bench.submit("a", 10, 50)
    joined.clock.run(0.1005)
    joined.worker.cancel(joined.submit("b", 10, 5).id)
    alone.run()
    joined.run()
    assert joined.end == {"a": pytest.approx(alone.end["a"])}


def test_what_is_cached_is_not_computed_again():
    bench = Bench()
    bench.submit("a", 35, 1, [1, 2, 3])
    bench.run()
    started = bench.clock.now_s
    job = bench.submit("b", 35, 1, [1, 2, 3])
    bench.run()
    assert job.matched == 3
    assert bench.first["b"] - started == pytest.approx(0.01 + 0.005)
    assert bench.told == [KvBatch(1, (1, 2, 3))]


def test_at_least_one_token_is_computed():
    bench = Bench()
    bench.submit("a", 30, 1, [1, 2, 3])
    bench.run()
    job = bench.submit("b", 30, 1, [1, 2, 3])
    bench.run()
    assert job.matched == 2


def test_the_least_recently_used_goes_first_and_tails_before_heads():
    bench = Bench()
    bench.submit("a", 101, 1, list(range(10)))
    bench.run()
    bench.submit("b", 121, 1, list(range(100, 112)))
    bench.run()
    assert bench.told[-2].removed == (9, 8, 7)
    assert len(bench.worker.cache.ledger.held) == 19


def test_a_job_waits_for_room():
    bench = Bench()
    bench.submit("a", 100, 60)
    bench.submit("b", 100, 1)
    assert bench.worker.report().waiting == 2
    bench.clock.run(0.2)
    assert (bench.worker.report().running, bench.worker.report().waiting) == (1, 1)
    bench.run()
    assert bench.first["b"] > bench.end["a"]


def test_a_cancelled_job_leaves_nothing():
    bench = Bench()
    for name in ("a", "b", "c"):
        bench.submit(name, 150, 20, [1, 2])
    bench.clock.run(0.3)
    for name in ("a", "b", "c"):
        bench.worker.cancel(name)
    report = bench.worker.report()
    assert (report.running, report.waiting, report.queued_tokens, report.active_blocks) == (0, 0, 0, 0)
    bench.run()
    assert bench.end == {}

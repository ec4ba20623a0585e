"""The mock engine in virtual time: what happens when it is told to misbehave."""

from __future__ import annotations

import pytest

from dyno_runtime.engine.base import EngineError, KvEvents, Overloaded
from dyno_runtime.engine.mock.args import Faults
from dyno_runtime.engine.mock.machine import DIED
from tests.runtime.engine.virtual import (
    LINK,
    SECONDS,
    answers,
    job,
    make_machine,
    prefill,
    replayed,
    watch,
)

# ---- time ----------------------------------------------------------------------------------------------


# ---- faults --------------------------------------------------------------------------------------------


def test_it_dies_after_so_many_tokens_and_does_nothing_more():
    codes: list[int] = []
    machine, loop, steps = make_machine(exit=codes.append, faults=Faults(die_after_tokens=5))
    for name in "ab":
        machine.generate(job(name, count=9))
    loop.run()
    assert codes == [DIED]
    assert [len(step) for step in steps] == [2, 2, 2]
    machine.generate(job("c"))
    loop.run()
    assert codes == [DIED]


def test_it_dies_when_it_is_told_to():
    codes: list[int] = []
    machine, loop, steps = make_machine(exit=codes.append, **SECONDS)
    machine.generate(job("a", "x" * 10, count=9))
    loop.run(3.5)
    machine.inject(Faults(die=True))
    loop.run()
    assert codes == [DIED]
    assert len(steps) == 2


def test_an_idle_engine_dies_too():
    codes: list[int] = []
    machine, loop, _ = make_machine(exit=codes.append)
    machine.inject(Faults(die=True))
    loop.run()
    assert codes == [DIED]


def test_it_hangs_and_goes_on():
    machine, loop, _ = make_machine(**LINK)
    told = watch(machine, loop)
    machine.generate(job("a", "x" * 10, 3))
    ended = prefill(machine, loop, job("p", "y" * 10, kv={"cached_tokens": 0}))
    loop.run(3.5)
    assert told == [(3.0, ["a"])]
    machine.inject(Faults(hang=True))
    machine.generate(job("b", count=1))
    loop.run(100.0)
    assert (len(told), ended) == (1, [])
    assert machine.stats().waiting == 1
    machine.inject(Faults())
    loop.run()
    assert [at_s for at_s, _ in ended] == [100.0]
    assert answers_of(told) == ["a", "a", "a", "b"]
    assert machine.stats().active_blocks == 0


def answers_of(told: list[tuple[float, list[str]]]) -> list[str]:
    return sorted(name for _, names in told for name in names)


def test_every_third_request_fails():
    machine, loop, steps = make_machine(faults=Faults(fail_every=3))
    ended = []
    for number in range(5):
        machine.generate(job(str(number), count=2))
    ended = prefill(machine, loop, job("5"))
    loop.run()
    errors = [(o.job.id, o.tokens, o.finish, o.error) for step in steps for o in step if o.error]
    assert errors == [("2", [], "error", "the mock engine was told to fail this request")]
    assert str(ended[0][1]) == "the mock engine was told to fail this request"
    assert isinstance(ended[0][1], EngineError)
    assert machine.stats().active_blocks == 0


def test_every_second_request_is_refused():
    machine, loop, steps = make_machine(faults=Faults(reject_every=2))
    machine.generate(job("0", count=1))
    for ask in (machine.generate, lambda one: machine.prefill(one, lambda result: None)):
        with pytest.raises(Overloaded, match=r"^the mock engine was told to refuse this request$"):
            ask(job("1"))
        machine.generate(job(f"2{ask}", count=1))
    loop.run()
    assert len(answers(steps)) == 3


def test_every_second_transfer_fails():
    machine, loop, _ = make_machine(faults=Faults(fail_transfer_every=2))
    ended = [prefill(machine, loop, job(str(number), kv={"cached_tokens": 0})) for number in range(2)]
    loop.run()
    assert ended[0][0][1]["engine"] == "mock"
    assert str(ended[1][0][1]) == "the mock engine was told to fail this transfer"
    assert machine.stats().active_blocks == 0


def test_kv_events_are_numbered_lost_and_repeated():
    machine, loop, _ = make_machine(faults=Faults(drop_kv_every=3, repeat_kv_every=2))
    heard: list[KvEvents] = []
    machine.on_kv = heard.append
    for number in range(6):
        machine.generate(job(str(number), str(number) * 8, 1))
        loop.run()
    assert [events.seq for events in heard] == [1, 2, 2, 4, 5, 5]
    machine.inject(Faults())
    machine.clear_cache()
    assert heard[-1].seq == 7
    assert machine.held() == (7, [])


def test_after_a_gap_the_engine_says_what_it_holds():
    machine, loop, _ = make_machine(kv_blocks=20, faults=Faults(drop_kv_every=4))
    held: set[int] = set()
    seq = asked = 0

    def hear(events: KvEvents) -> None:
        nonlocal seq, held, asked
        if events.seq == seq + 1:
            held = replayed(events.changes, held)
            seq = events.seq
        else:
            asked += 1
            seq, names = machine.held()
            held = set(names)

    machine.on_kv = hear
    for number in range(40):
        machine.generate(job(str(number), str(number % 7) * (number % 11 + 4), 4))
        loop.run()
    machine.inject(Faults())
    machine.generate(job("last", "the last one", 1))
    loop.run()
    assert asked > 2
    assert (seq, held) == (machine.kv_seq, set(machine.held()[1]))


def test_closed_it_forgets_everything():
    machine, loop, steps = make_machine(**LINK)
    machine.generate(job("a"))
    machine.reserve(job("b"))
    ended = prefill(machine, loop, job("c", kv={}))
    loop.run(0.5)
    machine.close()
    loop.run()
    assert (steps, ended, machine.stats().active_blocks, machine.stats().running) == ([], [], 0, 0)

"""The mock engine in virtual time: when steps end, transfers, deadlines, faults, and speed without end."""

from __future__ import annotations

from typing import Any

import pytest

from dyno_runtime.engine.base import BadJob, EngineError, KvEvents, Output, Overloaded
from dyno_runtime.engine.mock.args import Faults
from dyno_runtime.engine.mock.machine import DIED, Machine
from tests.runtime.engine.virtual import VirtualLoop, answers, job, make_machine, replayed

# One second for a step, one for each ten prompt tokens, and nothing else takes time.
SECONDS: dict[str, Any] = {
    "step_base_s": 1.0,
    "step_seq_s": 0.0,
    "step_context_token_s": 0.0,
    "prefill_tokens_per_s": 10.0,
}


def watch(machine: Machine, loop: VirtualLoop) -> list[tuple[float, list[str]]]:
    """When which jobs were told something, from now on."""
    told: list[tuple[float, list[str]]] = []
    machine.deliver = lambda outputs: told.append((loop.now_s, [one.job.id for one in outputs if one.job]))
    return told


# ---- time ----------------------------------------------------------------------------------------------


def test_steps_end_when_they_are_due_and_prefill_makes_decode_wait():
    machine, loop, _ = make_machine(**SECONDS)
    told = watch(machine, loop)
    machine.generate(job("a", "x" * 10, 4))
    loop.run(2.5)
    machine.generate(job("b", "y" * 20, 1))
    loop.run()
    # The step under way ends without `b`; the next one has its prefill in it.
    assert told == [(2.0, ["a"]), (3.0, ["a"]), (6.0, ["a", "b"]), (7.0, ["a"])]


@pytest.mark.parametrize(("args", "factor"), [({"speedup": 4}, 0.25), ({"faults": Faults(slow=3)}, 3.0)])
def test_speedup_and_slowness_stretch_time(args: dict[str, Any], factor: float):
    machine, loop, _ = make_machine(**SECONDS, **args)
    told = watch(machine, loop)
    machine.generate(job("a", "x" * 10, 3))
    loop.run()
    assert [at_s for at_s, _ in told] == pytest.approx([2 * factor, 3 * factor, 4 * factor])


def test_a_timer_that_fires_late_makes_no_later_step_late():
    machine, loop, _ = make_machine(**{**SECONDS, "step_base_s": 0.01})
    told = watch(machine, loop)
    loop.late_s = 0.004
    machine.generate(job("a", "x", 4))
    loop.run()
    # Each is late once, not by the sum of all before it.
    assert [at_s for at_s, _ in told] == pytest.approx([0.114, 0.124, 0.134, 0.144])


def test_a_long_pause_is_lost():
    machine, loop, _ = make_machine(**{**SECONDS, "step_base_s": 0.01})
    told = watch(machine, loop)
    machine.generate(job("a", "x", 40))
    loop.turn()
    loop.now_s = 50.0
    loop.run()
    # A tenth of a second is caught up, ten steps; the rest of the pause is not.
    assert sum(1 for at_s, _ in told if at_s == 50.0) == 11
    assert told[-1][0] == pytest.approx(50.0 + 0.01 * 29)


def test_without_limit_no_time_passes_and_every_turn_is_bounded():
    machine, loop, steps = make_machine(speedup="inf", turn_tokens=10, step_base_s=5.0)
    for number in range(3):
        machine.generate(job(str(number), "x" * 40, 50))
    most = 0
    while True:
        before = sum(len(step) for step in steps)
        if not loop.turn():
            break
        most = max(most, sum(len(step) for step in steps) - before)
    assert loop.now_s == 0.0
    assert {name: len(tokens) for name, tokens in answers(steps).items()} == {"0": 50, "1": 50, "2": 50}
    assert 1 <= most <= 12


def test_all_outputs_of_a_step_come_together_except_those_with_an_emit_of_their_own():
    machine, loop, steps = make_machine()
    own: list[Output] = []
    machine.generate(job("a", count=3))
    machine.generate(job("b", count=3), own.append)
    machine.generate(job("c", count=2))
    loop.run()
    assert [[output.job.id for output in step] for step in steps] == [["a", "c"], ["a", "c"], ["a"]]
    assert [output.finish for output in own] == [None, None, "length"]


def test_a_caller_that_fails_does_not_stop_the_engine(caplog: pytest.LogCaptureFixture):
    machine, loop, _ = make_machine()

    def fail(outputs: list[Output]) -> None:
        raise RuntimeError("broken")

    machine.deliver = fail
    machine.generate(job("a", count=2))
    loop.run()
    assert machine.stats().active_blocks == 0
    assert [record.message for record in caplog.records] == ["the outputs of a step were lost"] * 2


def test_whoever_is_told_may_abort_and_ask_for_more_at_once():
    machine, loop, _ = make_machine()
    told: list[str] = []

    def answer(outputs: list[Output]) -> None:
        for output in outputs:
            assert output.job is not None
            told.append(output.job.id)
            if output.job.id == "a":
                machine.abort("a")
                machine.abort("b")
                machine.generate(job("c", count=1))

    machine.deliver = answer
    machine.generate(job("a", count=9))
    machine.generate(job("b", count=9))
    loop.run()
    # `b` was in the step that was just told.
    assert told == ["a", "b", "c"]
    assert machine.stats().active_blocks == 0


# ---- prefill for others --------------------------------------------------------------------------------

LINK: dict[str, Any] = {**SECONDS, "bytes_per_token": 100, "transfer_bytes_per_s": 1000.0}


def prefill(machine: Machine, loop: VirtualLoop, asked: Any) -> list[tuple[float, Any]]:
    """What becomes of a prefill, and when."""
    ended: list[tuple[float, Any]] = []
    machine.prefill(asked, lambda result: ended.append((loop.now_s, result)))
    return ended


def test_a_remote_prefill_gives_the_same_answer_as_a_local_one():
    local, loop, expected = make_machine(**LINK)
    local.generate(job("a", "x" * 30, 9))
    loop.run()
    decode, decode_loop, steps = make_machine(**LINK)
    other, other_loop, _ = make_machine(**LINK)
    place = decode.reserve(job("a", "x" * 30, 9))
    assert place is not None
    assert (place["engine"], len(place["blocks"]), place["cached_tokens"]) == ("mock", 8, 0)
    ended = prefill(other, other_loop, job("a", "x" * 30, kv=place))
    other_loop.run()
    ((at_s, kv),) = ended
    assert at_s == pytest.approx(1.0 + 3.0 + 3.0), "a step, its tokens, the way of 3000 bytes"
    assert kv["bytes"] == 3000
    assert other.stats().active_blocks == 0
    decode.generate(job("a", "x" * 30, 9, kv=kv))
    decode_loop.run()
    assert answers(steps) == answers(expected)
    # One token is computed here, the one that the answer goes on from.
    assert decode_loop.now_s == pytest.approx(1.1 + 8.0)
    assert decode.stats().active_blocks == 0
    assert set(decode.held()[1]) == set(local.held()[1])


def test_only_what_decode_lacks_is_sent():
    decode, loop, _ = make_machine(**LINK)
    decode.generate(job("before", "x" * 20, 1))
    loop.run()
    place = decode.reserve(job("a", "x" * 30))
    assert place is not None
    assert place["cached_tokens"] == 20
    other, other_loop, _ = make_machine(**LINK)
    ended = prefill(other, other_loop, job("a", "x" * 30, kv=place))
    other_loop.run()
    assert ended[0][1]["bytes"] == 1000


def test_transfers_share_the_link_and_hold_their_blocks_until_they_arrive():
    machine, loop, _ = make_machine(**LINK)
    first = prefill(machine, loop, job("a", "x" * 30, kv={"cached_tokens": 0}))
    second = prefill(machine, loop, job("b", "y" * 10, kv={"cached_tokens": 0}))
    loop.run(5.5)
    assert first == second == []
    assert machine.stats().active_blocks == 8 + 3
    loop.run()
    assert [first[0][0], second[0][0]] == pytest.approx([5.0 + 3.0, 5.0 + 3.0 + 1.0])
    assert machine.stats().active_blocks == 0


def test_one_engine_may_prefill_for_itself():
    machine, loop, steps = make_machine(**LINK)
    place = machine.reserve(job("a", "x" * 30, 2))
    ended = prefill(machine, loop, job("a", "x" * 30, kv=place))
    loop.run(50.0)
    machine.generate(job("a", "x" * 30, 2, kv=ended[0][1]))
    loop.run()
    assert len(answers(steps)["a"]) == 2
    assert machine.stats().active_blocks == 0


def test_without_a_place_to_write_to_nothing_is_sent():
    machine, loop, _ = make_machine(**LINK)
    ended = prefill(machine, loop, job("a", "x" * 10))
    loop.run()
    assert ended == [(2.0, None)]


@pytest.mark.parametrize("until_s", [0.5, 5.0, 6.0])
def test_an_aborted_prefill_frees_all_and_tells_nothing(until_s: float):
    machine, loop, _ = make_machine(**LINK)
    ended = prefill(machine, loop, job("a", "x" * 30, kv={"cached_tokens": 0}))
    loop.run(until_s)
    machine.abort("a", for_other=True)
    assert machine.stats().active_blocks == 0
    loop.run()
    assert ended == []


def test_kv_that_never_came_is_computed_here():
    machine, loop, steps = make_machine(**LINK)
    machine.reserve(job("a", "x" * 30, 2))
    machine.generate(job("a", "x" * 30, 2))
    loop.run()
    assert len(answers(steps)["a"]) == 2
    assert loop.now_s == pytest.approx(1.0 + 3.0 + 1.0)


def test_kv_of_another_prompt_is_refused_and_the_blocks_stay():
    machine, loop, steps = make_machine(**LINK)
    ended = prefill(machine, loop, job("other", "y" * 30, kv={}))
    loop.run()
    machine.reserve(job("a", "x" * 30, 2))
    with pytest.raises(BadJob, match=r"^the KV that came for job a is not that of its prompt$"):
        machine.generate(job("a", "x" * 30, 2, kv=ended[0][1]))
    machine.generate(job("a", "x" * 30, 2))
    loop.run()
    assert len(answers(steps)["a"]) == 2


def test_blocks_are_not_set_aside_for_ever(caplog: pytest.LogCaptureFixture):
    machine, loop, _ = make_machine(reserve_s=3.0)
    machine.reserve(job("a"))
    machine.reserve(job("b"))
    machine.generate(job("b", count=1))
    loop.run(2.9)
    assert machine.stats().active_blocks == 4
    loop.run(3.0)
    assert machine.stats().active_blocks == 0
    assert [record.message for record in caplog.records] == ["job a: its blocks were set aside for too long"]


def test_a_job_that_waited_for_reserved_blocks_goes_on_when_they_are_given_up():
    machine, loop, steps = make_machine(kv_blocks=4, reserve_s=3.0)
    machine.reserve(job("a", "x" * 12))
    machine.generate(job("b", "y" * 12, 1))
    loop.run(2.9)
    assert steps == []
    loop.run()
    assert len(answers(steps)["b"]) == 1


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

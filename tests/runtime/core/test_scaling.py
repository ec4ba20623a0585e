"""The planner's rules: a recorded day and its decisions, each rule at its edge, and every decision made again.

`DYNO_REWRITE=1 pytest` writes tests/golden/planner/decisions.json anew; read what changed before you commit it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_runtime.core.scaling import Counts, Decision, Figures, Seen, Window, again, decide, kv_load
from dyno_runtime.settings import Planner

GOLDEN = Path(__file__).parents[2] / "golden" / "planner"
MAX_GPUS = 8
RULES = Planner(max_gpus=MAX_GPUS)


def interval(one: dict[str, Any]) -> Seen:
    """What a window makes of a recorded interval."""
    window = Window(Counts(*one["before"]))
    for number in range(max(len(one["queue"]), len(one["loads"]))):
        queue = one["queue"][number] if number < len(one["queue"]) else None
        window.add(queue, one["loads"][number : number + 1])
    return window.seen(Counts(*one["now"]), Figures())


def test_a_recorded_day():
    grace, told = 0, []
    for one in json.loads((GOLDEN / "day.json").read_text()):
        decision = decide(RULES, interval(one), grace)
        grace = decision.grace_after
        plain = msgspec.to_builtins(decision)
        told.append({"what": one["what"], **{key: plain[key] for key in plain if key != "rules"}})
    path = GOLDEN / "decisions.json"
    if os.environ.get("DYNO_REWRITE") == "1":
        path.write_text(json.dumps(told, indent=1) + "\n")
    assert told == json.loads(path.read_text())


def seen(decode: int = 2, prefill: int = 2, load: float | None = 0.7, *queue: float) -> Seen:
    window = Window(Counts(decode, prefill))
    for tasks in queue or (0.3,):
        window.add(tasks, [] if load is None else [load])
    return window.seen(Counts(decode, prefill), Figures())


@pytest.mark.parametrize(
    ("load", "grace", "wish"),
    [(0.49, 0, 1), (0.5, 0, 2), (0.49, 1, 2), (0.9, 0, 2), (0.91, 0, 3), (0.91, 2, 3), (None, 0, 2)],
)
def test_decode_follows_its_kv_load(load: float | None, grace: int, wish: int):
    assert decide(RULES, seen(2, 2, load), grace).decode.wish == wish


@pytest.mark.parametrize(
    ("queue", "wish"),
    [
        ((0.19,), 1),
        ((0.2,), 2),
        ((0.5,), 2),
        ((0.51,), 3),
        ((2.0, 1.0), 2),  # 1 + 3 * (1 - 2) are to be expected
        ((2.0, 1.9), 3),  # 1.9 - 0.3
    ],
)
def test_prefill_follows_the_queue_and_its_trend(queue: tuple[float, ...], wish: int):
    found = decide(RULES, seen(2, 2, 0.7, *queue), 0).prefill
    assert found is not None
    assert found.wish == wish


def test_a_wish_for_decode_gives_it_grace_for_three_intervals():
    decision = decide(RULES, seen(2, 2, 0.95), 0)
    left = []
    for _ in range(5):
        left.append(decision.grace_after)
        decision = decide(RULES, seen(3, 2, 0.1), decision.grace_after)
    assert left == [3, 2, 1, 0, 0]


def test_gpus_are_counted_by_worker():
    rules = Planner(max_gpus=24, decode_gpus=8, prefill_gpus=8)
    assert decide(rules, seen(1, 1, 0.95), 0).decode.wish == 2
    full = decide(rules, seen(2, 1, 0.95), 0).decode
    assert (full.wish, full.why) == (
        2,
        "the KV load was 0.95 on average, above 0.9, but one more would take more than 24 GPUs",
    )


def test_waiting_counts_only_beside_running_requests():
    assert kv_load(0.5, 4, 10) == pytest.approx(0.7)
    assert kv_load(0.5, 0, 10) == 0.5


counts = st.builds(Counts, st.integers(0, 9), st.integers(0, 9))
looks = st.lists(st.tuples(st.none() | st.floats(0, 20), st.lists(st.floats(0, 2), max_size=3)), max_size=8)


@given(counts, counts, looks, st.integers(0, 3))
def test_every_decision_can_be_made_again_from_its_record_and_keeps_the_bounds(
    before: Counts, now: Counts, made: list[tuple[float | None, list[float]]], grace: int
):
    window = Window(before)
    for queue, loads in made:
        window.add(queue, loads)
    decision = decide(RULES, window.seen(now, Figures()), grace)
    record = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
    assert record == decision
    assert again(record) == decision
    for wish in (decision.decode, decision.prefill):
        if wish is not None:
            assert abs(wish.wish - wish.now) <= 1
            assert wish.wish >= min(wish.now, RULES.min_workers)
    if decision.changes:
        more = decision.decode.wish + (decision.prefill.wish if decision.prefill else 0)
        assert more <= max(MAX_GPUS, now.decode + now.prefill)

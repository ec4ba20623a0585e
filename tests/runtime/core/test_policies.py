"""Every policy, case by case."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_runtime.core.load import WorkerLoad
from dyno_runtime.core.policies import POLICIES, Choice, PolicyName, Request, View

BLOCK = 10


def load(
    running: int = 0, waiting: int = 0, queued: int = 0, active: int = 0, tokens_per_s: float = 0.0
) -> WorkerLoad:
    return WorkerLoad(running, waiting, queued, active, total_blocks=100, prefill_tokens_per_s=tokens_per_s)


def view(turn: int = 0, held: dict[str, int] | None = None, **workers: tuple[int, WorkerLoad]) -> View:
    """Workers by name, each with the blocks that it holds of the prompt, and its load."""
    matched = {name: found for name, (found, _) in workers.items() if found}
    loads = {name: one for name, (_, one) in workers.items()}
    return View(list(workers), loads, matched, held or {}, BLOCK, turn)


def choose(policy: PolicyName, seen: View, tokens: int = 100) -> Choice:
    return POLICIES[policy](Request("r", "m", tokens), seen, Random(1))


ALL = get_args(PolicyName)
COMPARING: tuple[PolicyName, ...] = ("kv", "kv_classic", "prefix", "least_loaded")


def test_every_policy_has_a_function():
    assert set(POLICIES) == set(ALL)


@pytest.mark.parametrize("policy", ALL)
def test_an_idle_cluster_routes(policy: PolicyName):
    # Where all loads are zero, the example's cost function divided by zero, and found nobody.
    choice = choose(policy, view(a=(0, load()), b=(0, load())))
    assert choice.worker in ("a", "b")
    assert choice.why


@pytest.mark.parametrize("policy", ALL)
def test_a_single_worker_takes_everything(policy: PolicyName):
    assert choose(policy, view(a=(0, load(99, 99, 99_999, 100))), tokens=0).worker == "a"


@pytest.mark.parametrize("policy", [*COMPARING, "round_robin"])
def test_equals_take_turns(policy: PolicyName):
    workers = {name: (0, load(3, 1, 50, 10)) for name in "abcd"}
    chosen = Counter(choose(policy, view(turn, None, **workers)).worker for turn in range(40))
    assert chosen == {"a": 10, "b": 10, "c": 10, "d": 10}


@pytest.mark.parametrize("policy", COMPARING)
def test_the_scores_are_those_of_the_workers_in_their_order(policy: PolicyName):
    choice = choose(policy, view(a=(2, load(1)), b=(9, load()), c=(0, load(5))))
    assert choice.worker == "b"
    assert len(choice.scores) == 3
    best = max if policy in ("prefix", "kv_classic") else min
    assert best(choice.scores) == choice.scores[1]


def test_random_is_drawn_from_the_generator():
    workers = view(a=(0, load()), b=(0, load()))
    rng = Random(1)
    chosen = Counter(POLICIES["random"](Request("r", "m", 1), workers, rng).worker for _ in range(1000))
    assert min(chosen.values()) > 400


def test_least_loaded_counts_waiting_and_running():
    seen = view(a=(9, load(3, 1)), b=(0, load(2, 1)), c=(0, load(0, 5)))
    assert choose("least_loaded", seen) == Choice("b", "{} requests there, the fewest", 0, [4, 3, 5], 3)


def test_prefix_takes_the_longest_whatever_the_load():
    seen = view(a=(5, load(50, 50, 9999)), b=(4, load()))
    assert choose("prefix", seen) == Choice("a", "holds {} blocks of the prompt, the most", 5, [5, 4], 5)


def test_prefix_does_not_crowd_one_worker_for_a_system_prompt():
    seen = view(a=(2, load(5)), b=(0, load(1)))
    choice = choose("prefix", seen)
    assert (choice.worker, choice.scores) == ("b", [2, 0])
    assert choice.why == "nobody holds enough of the prompt; 1 requests there, the fewest"


def test_prefix_prefers_the_emptier_of_equals():
    seen = view(held={"a": 9, "b": 5, "c": 7}, a=(5, load()), b=(5, load()), c=(5, load()))
    assert choose("prefix", seen).worker == "b"


@pytest.mark.parametrize(
    ("a", "b", "chosen"),
    [
        ((5, load()), (4, load()), "a"),  # more of the prompt
        ((5, load(queued=60)), (4, load()), "b"),  # but not if it waits longer than that saves
        ((5, load(queued=5)), (4, load()), "a"),
        ((5, load(running=20)), (5, load(running=10)), "b"),  # decode slows prefill
        ((0, load(tokens_per_s=100.0)), (0, load(tokens_per_s=200.0)), "b"),  # the faster one
        ((0, load(queued=100, tokens_per_s=400.0)), (0, load(tokens_per_s=100.0)), "a"),
        ((10, load()), (9, load()), "a"),  # all of the prompt
    ],
)
def test_kv_takes_the_soonest(a: tuple[int, WorkerLoad], b: tuple[int, WorkerLoad], chosen: str):
    assert choose("kv", view(a=a, b=b)).worker == chosen


def test_kv_spares_the_others_when_many_wait():
    # 5 blocks are found where 90 tokens wait: too long a queue when nobody else waits, worth it when many do.
    calm = view(a=(5, load(waiting=0, queued=90)), b=(0, load(waiting=0)))
    busy = view(a=(5, load(waiting=4, queued=90)), b=(0, load(waiting=4)))
    assert [choose("kv", calm).worker, choose("kv", busy).worker] == ["b", "a"]


def test_kv_says_why():
    assert choose("kv", view(a=(5, load(queued=30)))).why == "costs 0.010 s, the least"


@pytest.mark.parametrize(
    ("a", "b", "chosen"),
    [
        ((3, load()), (2, load()), "a"),
        ((0, load(active=50)), (0, load(active=40)), "b"),
        ((0, load(waiting=2)), (0, load(waiting=1)), "b"),
        ((5, load(active=99)), (0, load()), "a"),  # half of the prompt outweighs full memory
        ((5, load(active=99, waiting=1)), (0, load()), "b"),
    ],
)
def test_kv_classic_weighs_as_the_formula_says(
    a: tuple[int, WorkerLoad], b: tuple[int, WorkerLoad], chosen: str
):
    assert choose("kv_classic", view(a=a, b=b)).worker == chosen


def test_kv_classic_is_the_formula():
    seen = view(a=(5, load(active=30, waiting=1)), b=(0, load(active=10, waiting=4)))
    choice = choose("kv_classic", seen)
    assert (choice.worker, choice.why) == ("a", "score 0.450, the highest")
    assert choice.scores == pytest.approx([0.45, -1.1])


def test_similar_looks_at_prompts_alone():
    seen = view(a=(0, load(99)), b=(9, load()))
    memory = {"a": "Tell me a joke"}
    seen = View(seen.workers, seen.loads, seen.matched, seen.held, BLOCK, 0, memory)
    alike = POLICIES["similar"](Request("r", "m", 1, prompt="Tell me a fact"), seen, Random(1))
    other = POLICIES["similar"](Request("r", "m", 1, prompt="Which team won?"), seen, Random(1))
    assert alike == Choice("a", "its first prompt was the most alike")
    assert other == Choice("b", "its first prompt", 9, teaches=True)


@given(
    st.sampled_from(COMPARING),
    st.lists(
        st.tuples(st.integers(0, 10), st.integers(0, 9), st.integers(0, 9), st.integers(0, 500)),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 100),
    st.integers(100, 200),
)
def test_nobody_who_is_better_in_everything_is_passed_over(
    policy: PolicyName, states: list[tuple[int, int, int, int]], turn: int, tokens: int
):
    workers = {
        f"w{number}": (found, load(running, waiting, queued))
        for number, (found, running, waiting, queued) in enumerate(states)
    }
    chosen = int(choose(policy, view(turn, None, **workers), tokens).worker[1:])
    found, *work = states[chosen]
    for other_found, *other_work in states:
        better = other_found > found and all(
            mine > other for mine, other in zip(work, other_work, strict=True)
        )
        assert not better

"""Which worker takes a request: the hello-world rule, case by case, and the plain policies."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from dyno_runtime.core.routing import COMPARED_CHARS, Choice, Router, similar, similarity

JOKE, SERIES, FACT = "Tell me a joke", "Which team won 2020 World Series", "Tell me a fact"
PREFILL = "This is prefill disagg serving example"


def worker_of(choice: Choice | None) -> str:
    assert choice is not None
    return choice.worker


def test_the_ratios_that_the_example_rests_on():
    assert round(similarity(JOKE, SERIES), 4) == 0.2174
    assert round(similarity(JOKE, FACT), 4) == 0.7143
    assert round(similarity(SERIES, FACT), 4) == 0.0870
    assert round(similarity(JOKE, PREFILL), 4) == 0.2692


def test_different_prompts_spread_and_a_similar_one_comes_back():
    router = Router("similar", Random(0))
    assert [router.choose(prompt, ["a", "b"]) for prompt in (JOKE, SERIES, FACT)] == [
        Choice("a", teaches=True),
        Choice("b", teaches=True),
        Choice("a"),
    ]


def test_the_first_prompt_is_what_counts():
    router = Router("similar", Random(0))
    router.choose(JOKE, ["a"])
    router.choose(SERIES, ["a"])
    assert router.memory == {"a": JOKE}


def test_the_most_similar_takes_it_when_nobody_is_fresh():
    memory = {"a": SERIES, "b": JOKE}
    scores = [similarity(SERIES, "Who won?"), similarity(JOKE, "Who won?")]
    assert 0.6 > scores[0] > scores[1]
    assert similar("Who won?", ["a", "b"], memory) == Choice("a")


def test_exactly_the_threshold_is_not_similar():
    # 3 equal of 5 characters each: a ratio of exactly 0.6.
    assert similarity("aaabb", "aaacc") == 0.6
    assert similar("aaabb", ["a", "b"], {"a": "aaacc"}) == Choice("b", teaches=True)


def test_a_probe_teaches_nothing_under_any_policy():
    router = Router("similar", Random(0))
    assert router.choose(JOKE, ["a", "b"], probe=True) == Choice("a", teaches=True)
    assert router.memory == {}
    turns = Router("round_robin", Random(0))
    assert [turns.choose("x", ["a", "b"], probe=True) for _ in range(3)] == [Choice("a")] * 3


def test_departed_workers_are_forgotten():
    router = Router("similar", Random(0))
    router.learn("a", JOKE)
    router.learn("b", SERIES)
    router.keep_only(["b", "c"])
    assert router.memory == {"b": SERIES}


def test_memory_holds_no_more_than_it_compares():
    router = Router("similar", Random(0))
    router.learn("a", "x" * 1_000_000)
    assert len(router.memory["a"]) == COMPARED_CHARS


def test_round_robin_takes_turns():
    router = Router("round_robin", Random(0))
    assert [worker_of(router.choose("x", ["a", "b", "c"])) for _ in range(4)] == ["a", "b", "c", "a"]


def test_random_uses_the_generator_that_it_was_given():
    picks = [
        [worker_of(Router("random", Random(7)).choose("x", ["a", "b", "c"])) for _ in range(1)]
        for _ in range(3)
    ]
    assert picks[0] == picks[1] == picks[2]
    router = Router("random", Random(7))
    assert {worker_of(router.choose("x", ["a", "b", "c"])) for _ in range(50)} == {"a", "b", "c"}


def test_no_workers_no_choice():
    assert Router("similar", Random(0)).choose("x", []) is None


@given(
    st.lists(st.text(max_size=20), max_size=20),
    st.sampled_from(["similar", "random", "round_robin"]),
    st.integers(1, 5),
)
def test_an_idle_cluster_always_routes_to_a_living_worker(prompts, policy, count):
    workers = [f"w{number}" for number in range(count)]
    router = Router(policy, Random(1))
    for prompt in prompts:
        assert worker_of(router.choose(prompt, workers)) in workers
    assert router.memory.keys() <= set(workers)

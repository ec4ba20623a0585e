"""The hello-world rule, case by case."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dyno_runtime.core.similar import COMPARED_CHARS, Pick, most_similar, similarity

JOKE, SERIES, FACT = "Tell me a joke", "Which team won 2020 World Series", "Tell me a fact"
PREFILL = "This is prefill disagg serving example"


def test_the_ratios_that_the_example_rests_on():
    assert round(similarity(JOKE, SERIES), 4) == 0.2174
    assert round(similarity(JOKE, FACT), 4) == 0.7143
    assert round(similarity(SERIES, FACT), 4) == 0.0870
    assert round(similarity(JOKE, PREFILL), 4) == 0.2692


def test_different_prompts_spread_and_a_similar_one_comes_back():
    assert most_similar(JOKE, ["a", "b"], {}) == Pick("a", teaches=True)
    assert most_similar(SERIES, ["a", "b"], {"a": JOKE}) == Pick("b", teaches=True)
    assert most_similar(FACT, ["a", "b"], {"a": JOKE, "b": SERIES}) == Pick("a")


def test_the_most_similar_takes_it_when_nobody_is_fresh():
    memory = {"a": SERIES, "b": JOKE}
    scores = [similarity(SERIES, "Who won?"), similarity(JOKE, "Who won?")]
    assert 0.6 > scores[0] > scores[1]
    assert most_similar("Who won?", ["a", "b"], memory) == Pick("a")


def test_exactly_the_threshold_is_not_similar():
    # 3 equal of 5 characters each: a ratio of exactly 0.6.
    assert similarity("aaabb", "aaacc") == 0.6
    assert most_similar("aaabb", ["a", "b"], {"a": "aaacc"}) == Pick("b", teaches=True)


def test_only_the_beginning_is_compared():
    same = "x" * COMPARED_CHARS
    assert similarity(same + "a" * 1000, same + "b" * 1000) == 1.0


@given(st.lists(st.text(max_size=20), max_size=20), st.integers(1, 5))
def test_it_is_always_a_living_worker(prompts, count):
    workers, memory = [f"w{number}" for number in range(count)], {"gone": "Tell me"}
    for prompt in prompts:
        pick = most_similar(prompt, workers, memory)
        assert pick.worker in workers
        if pick.teaches:
            assert pick.worker not in memory
            memory[pick.worker] = prompt

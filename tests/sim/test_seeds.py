"""A thousand small clusters with lost messages, deaths, partitions and leaving clients."""

from __future__ import annotations

import pytest

from tests.sim.scenario import play

SEEDS = 1000
EACH = 100


@pytest.mark.parametrize("first", range(0, SEEDS, EACH))
def test_nothing_is_lost_and_nothing_leaks(first: int):
    for seed in range(first, first + EACH):
        try:
            play(seed)
        except Exception as error:
            raise AssertionError(
                f"seed {seed}: {error}; again: python -m tests.sim.scenario {seed}"
            ) from error


def test_a_seed_is_played_the_same_way_twice():
    def story(seed: int) -> list[tuple[str, int, float | None, float | None]]:
        return [(one.worker, one.attempts, one.first_s, one.end_s) for one in play(seed).passages]

    assert story(7) == story(7)
    assert story(7) != story(8)

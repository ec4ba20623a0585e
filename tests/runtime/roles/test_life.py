"""How a process ends: asked, asked again, or because it cannot go on."""

from __future__ import annotations

import logging
import os

import pytest

from dyno_runtime.roles.life import Life


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []
    monkeypatch.setattr(os, "_exit", made.append)
    return made


async def test_who_is_asked_twice_ends_at_once(exits: list[int]) -> None:
    life = Life(logging.getLogger("dyno.test"), "draining")
    life.stop()
    assert (life.ending.is_set(), life.over(), exits) == (True, 0, [])
    life.stop()
    assert exits == [1]


async def test_who_ends_by_itself_is_asked_for_the_first_time(exits: list[int]) -> None:
    """It closes its engine, whose children would be left: a rank and its head are stopped at the same time."""
    life = Life(logging.getLogger("dyno.test"), "draining")
    life.fail("the head is gone")
    life.stop()
    assert (life.over(), exits) == (1, [])
    life.stop()
    assert exits == [1]

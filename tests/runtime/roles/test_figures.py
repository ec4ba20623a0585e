"""What a frontend makes of the times of its events."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dyno_runtime.metrics import names
from dyno_runtime.metrics.kinds import Meter
from dyno_runtime.roles.figures import Figures


def choice(moments: list[float], amounts: list[int], first_s: float = 1.0) -> Any:
    answer = SimpleNamespace(tokens=sum(amounts))
    flight = SimpleNamespace(first_s=first_s)
    return SimpleNamespace(
        answer=answer, flight=flight, moments=moments, amounts=amounts, seen_tokens=0, cached_tokens=0
    )


def visit(*choices: Any) -> Any:
    return SimpleNamespace(choices=choices, arrived_s=0.5, prompt_tokens=7, reason="overloaded")


def between(meter: Meter) -> tuple[Any, Any]:
    found = meter.histogram(names.INTER_TOKEN)
    return sum(found.counts), found.total


async def test_an_event_of_several_tokens_is_several_times_of_their_share():
    meter = Meter()
    figures = Figures(meter, measured=True)
    figures.look(visit(choice([1.0, 1.1, 1.5], [3, 1, 4])))
    figures.settle()
    assert between(meter) == (5, pytest.approx(0.5))
    figures.look(visit(choice([1.0, 1.1, 1.2], [1, 1, 1])))
    figures.settle()
    assert between(meter) == (7, pytest.approx(0.7))


async def test_an_answer_that_is_looked_at_on_its_way_is_counted_once():
    meter = Meter()
    figures = Figures(meter, measured=True)
    one = choice([1.0, 1.1], [1, 1])
    on_its_way = visit(one)
    figures.look(on_its_way)
    figures.look(on_its_way)
    one.moments.append(1.3)
    one.amounts.append(1)
    one.answer.tokens = 3
    figures.told(on_its_way, 503)
    figures.settle()
    figures.settle()
    assert between(meter) == (2, pytest.approx(0.3))
    assert meter.values(names.ANSWER_TOKENS).values == {(): 3}
    assert meter.values(names.PROMPT_TOKENS).values == {(): 7}
    assert meter.values(names.REJECTIONS).values == {("overloaded",): 1}
    first = meter.histogram(names.FIRST_TOKEN)
    assert sum(first.counts) == 1
    assert first.total == pytest.approx(0.5)


async def test_a_client_that_leaves_is_no_rejection():
    meter = Meter()
    figures = Figures(meter, measured=True)
    figures.told(visit(choice([], [], 0.0)), 499)
    assert meter.values(names.REQUESTS).values == {("499",): 1}
    assert meter.values(names.REJECTIONS).values == {}


async def test_times_that_nobody_asks_for_do_not_pile_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dyno_runtime.roles.figures.MOST_TIMES", 10)
    meter = Meter()
    figures = Figures(meter, measured=True)
    for _ in range(25):
        figures.answered(0.1)
    assert meter.values(names.REQUESTS).values == {("200",): 20}
    figures.settle()
    assert sum(meter.histogram(names.DURATION).counts) == 25

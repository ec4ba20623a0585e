"""What is typed becomes the points of a sweep, or a sentence that says what is wrong with it."""

from __future__ import annotations

import pytest

from dynoctl.bench import slo
from dynoctl.bench.load import Load, points
from dynoctl.errors import UsageError

BASE = Load(seed=100)


def test_the_defaults_are_those_of_the_usual_command() -> None:
    (one,) = points(Load(), None, None, None, None)
    assert (one.input_tokens, one.input_stddev, one.output_tokens, one.output_stddev) == (3000, 0, 150, 0)
    assert (one.concurrency, one.rate_per_s, one.requests, one.warmup, one.seed) == (10, None, 40, 10, 123)
    assert one.label == "concurrency 10"
    assert one.shape == "3000 in, 150 out"


def test_a_sweep_has_a_seed_for_each_point_and_enough_requests() -> None:
    found = points(BASE, "1,4,64", None, None, None, repeat=2)
    assert [one.concurrency for one in found] == [1, 4, 64, 1, 4, 64]
    assert [one.seed for one in found] == [100, 101, 102, 103, 104, 105]
    assert [(one.requests, one.warmup) for one in found[:3]] == [(40, 10), (40, 10), (256, 64)]
    assert found[0].key == found[3].key
    assert found[0].key != found[1].key


def test_rates() -> None:
    found = points(BASE, "8", "0.5,2", 20, 3)
    assert [one.label for one in found] == ["0.5 req/s, at most 8", "2 req/s, at most 8"]
    assert [(one.requests, one.warmup) for one in found] == [(20, 3), (20, 3)]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("1,x", None), "--concurrency: 'x' is not a whole number above 0"),
        (("0", None), "--concurrency: '0' is not a whole number above 0"),
        (("4,4", None), "--concurrency: 4 is given twice"),
        ((None, "-1"), "--request-rate: '-1' is not a number above 0"),
        (("1,2", "5"), "a sweep goes over --concurrency or over --request-rate, not over both"),
    ],
)
def test_sweeps_that_are_none(typed: tuple[str | None, str | None], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        points(BASE, *typed, None, None)
    assert caught.value.message == said


def test_a_trace_goes_alone() -> None:
    with pytest.raises(UsageError, match="--trace says when requests come and what they share"):
        points(Load(trace="t.jsonl"), "4", None, None, None)


def test_objectives() -> None:
    found = slo.parse("ttft=500ms, itl=0.05s")
    assert (found.ttft_ms, found.itl_ms, found.latency_ms) == (500.0, 50.0, None)
    assert str(found) == "ttft=500ms,itl=50ms"
    assert found.kept(500.0, None, 9e9)
    assert not found.kept(500.1, 1.0, 1.0)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("ttft=500", "--slo: ttft: 500 has no unit; write us, ms or s"),
        ("ttft=500parsec", "--slo: ttft: 'parsec' is no unit of time; write us, ms or s"),
        ("speed=1s", "--slo: 'speed=1s' names no objective; there are ttft, itl, latency"),
        ("ttft", "--slo: 'ttft' names no objective; there are ttft, itl, latency"),
        ("ttft=fast", "--slo: ttft: 'fast' is no time"),
        ("itl=0ms", "--slo: itl: no request can take 0 ms"),
        ("itl=1ms,itl=2ms", "--slo: itl is given twice"),
    ],
)
def test_objectives_that_are_none(typed: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        slo.parse(typed)
    assert (caught.value.message, caught.value.next) == (said, "--slo ttft=500ms,itl=50ms,latency=10s")

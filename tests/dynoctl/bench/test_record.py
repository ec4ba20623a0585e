"""Records, there and back; and what is said of two of them."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest

from dynoctl.bench.compare import Change, changes, comparable, margin_of, t95
from dynoctl.bench.counters import counters, with_counters
from dynoctl.bench.record import dump, load, masked
from dynoctl.bench.secrets import Secrets
from dynoctl.errors import DynoctlError
from tests.dynoctl.bench.made import LOAD, point, record


def test_a_record_there_and_back() -> None:
    made = record("a", point(), point(reasons=("1 of 4 answers had no token",)))
    content = dump(made)
    assert load(content, "a") == made
    values = json.loads(content)
    assert (values["schema"], values["valid"]) == (1, False)
    assert values["reasons"] == ["concurrency 10: 1 of 4 answers had no token"]
    assert record("a", point()).valid
    assert record("a", point(), interrupted=True).reasons == ["it was interrupted"]
    assert not record("a").valid
    cut = record("a", point(), problem="only 1 of 2 points were measured")
    assert (cut.valid, cut.reasons) == (False, ["only 1 of 2 points were measured"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"schema": 7, "dynoctl": "9.9"}', "x is a record of schema 7; this dynoctl reads 1"),
        (b"[]", "x is no record of a benchmark: Expected `object`, got `array`"),
        (b'{"schema": 1}', "x is no record of a benchmark: Object missing required field `id`"),
    ],
)
def test_records_that_are_none(content: bytes, said: str) -> None:
    with pytest.raises(DynoctlError) as caught:
        load(content, "x")
    assert caught.value.message == said


def test_tools_are_not_mixed() -> None:
    with pytest.raises(DynoctlError) as caught:
        comparable([record("a", point()), record("b", point(), tool="aiperf")], allow_invalid=False)
    assert caught.value.message == (
        "a was measured by builtin and b by aiperf: tools send and count in ways of their own, so their figures "
        "cannot be compared"
    )


def test_bytes_and_tokens_are_not_mixed() -> None:
    both = [record("a", point(), tokenizer="/m"), record("b", point(), tokenizer="bytes")]
    for one, other in (both, reversed(both)):
        with pytest.raises(DynoctlError) as caught:
            comparable([one, other], allow_invalid=True)
        assert caught.value.message == (
            "a token of b is a byte, and one of a is a token of /m: their prompts are not equally long, so their "
            "figures cannot be compared"
        )
        assert caught.value.next == "measure again with one of them: dynoctl bench --tokenizer /m"


def test_what_is_invalid_is_not_compared_unless_it_is_allowed() -> None:
    both = [record("a", point()), record("b", point(reasons=("nothing was warmed up",)))]
    with pytest.raises(DynoctlError) as caught:
        comparable(both, allow_invalid=False)
    assert (caught.value.message, caught.value.detail) == ("b is INVALID", ("nothing was warmed up",))
    comparable(both, allow_invalid=True)


def test_loads_that_have_nothing_in_common() -> None:
    with pytest.raises(DynoctlError) as caught:
        changes(record("a", point()), record("b", point(replace(LOAD, concurrency=4))))
    assert caught.value.message == "a and b have no load in common"
    assert caught.value.detail == ("a: concurrency 10, 3000 in, 10 out", "b: concurrency 4, 3000 in, 10 out")


def verdicts(was: tuple[float, ...], now: tuple[float, ...]) -> dict[str, str]:
    before = record("a", *(point(latency_s=one) for one in was))
    after = record("b", *(point(latency_s=one) for one in now))
    return {change.figure: change.verdict for change in changes(before, after)}


def test_more_than_noise_or_not() -> None:
    assert verdicts((1.0, 1.02, 0.98), (1.5, 1.52, 1.48))["latency_ms"] == "worse"
    assert verdicts((1.0, 1.02, 0.98), (0.5, 0.52, 0.48))["requests_per_s"] == "better"
    assert verdicts((1.0, 1.2, 0.8), (1.1, 1.3, 0.9))["latency_ms"] == "noise"
    assert verdicts((1.0,), (2.0,))["latency_ms"] == "not repeated"
    assert Change("l", "itl_ms", 10.0, 11.0, 0.5).percent == pytest.approx(10.0)


def test_the_margin_is_welchs() -> None:
    # Textbook values: means 20 and 22 of three each with variances 1 and 4 have 2.94 degrees of freedom.
    margin = margin_of((19.0, 20.0, 21.0), (20.0, 22.0, 24.0))
    assert margin == pytest.approx(4.303 * ((1 + 4) / 3) ** 0.5)
    assert margin_of((5.0, 5.0), (5.0, 5.0)) == 0.0


@pytest.mark.parametrize(
    ("freedom", "t"), [(1, 12.71), (30.9, 2.042), (31, 2.0395), (40, 2.0211), (120, 1.9799), (1e6, 1.95996)]
)
def test_students_t(freedom: float, t: float) -> None:
    assert t95(freedom) == pytest.approx(t, abs=2e-4)


def test_counters_of_a_server() -> None:
    text = (
        "# TYPE dyno_requests_total counter\n"
        'dyno_requests_total{status="200"} 7\n'
        "dyno_requests_in_flight 3\n"
        "dyno_cached_tokens_total 300\ndyno_prompt_tokens_total 1000 1700000000\n"
        "dyno_odd_total nothing\nodd_sum NaN\nodd_count +Inf\n"
    )
    after = counters(text)
    assert after == {
        'dyno_requests_total{status="200"}': 7.0,
        "dyno_cached_tokens_total": 300.0,
        "dyno_prompt_tokens_total": 1000.0,
    }
    before = {"dyno_cached_tokens_total": 100.0, "dyno_prompt_tokens_total": 600.0}
    untold = point().metrics.__class__(requests=4, duration_s=1.0)
    found = with_counters(untold, before, after)
    assert (found.cached_tokens, found.cached_share) == (200, 0.5)
    assert with_counters(untold, {}, {}) == untold


def test_a_secret_that_is_called_like_a_field() -> None:
    whole = record("a", point(), interrupted=True)
    errors = msgspec.structs.replace(whole.points[0].metrics, errors={"no requests": 1})
    whole = msgspec.structs.replace(whole, points=[msgspec.structs.replace(whole.points[0], metrics=errors)])
    found = masked(whole, Secrets(("requests",)))
    assert found.points[0].metrics.errors == {"no ***": 1}
    assert found.points[0].load == whole.points[0].load

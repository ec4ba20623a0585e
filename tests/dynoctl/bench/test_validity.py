"""The gate: every reason, in its very words, and nothing against what is well."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dynoctl.bench.counters import with_counters
from dynoctl.bench.load import Load
from dynoctl.bench.samples import Sample
from dynoctl.bench.validity import Evidence, changes, reasons
from tests.dynoctl.bench.made import GOOD, LOAD, evidence, snapshot

FAILED = Sample(0.0, 0.1, error="status 500: no")


def test_nothing_speaks_against_a_good_point() -> None:
    seen = snapshot(decode_0=(7, 0))
    assert reasons(evidence([GOOD] * 4, client_cpu=0.5, before=seen, after=seen)) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (evidence([GOOD] * 3 + [FAILED]), "1 of 4 requests failed: status 500: no"),
        (evidence([FAILED] * 4), "4 of 4 requests failed: status 500: no"),
        (
            evidence([GOOD, FAILED, FAILED, replace(FAILED, error="x")]),
            "3 of 4 requests failed: status 500: no (2 of them)",
        ),
        (evidence([GOOD] * 3), "only 3 of 4 requests were measured"),
        (evidence([GOOD] * 3 + [replace(GOOD, output_tokens=0)]), "1 of 4 answers had no token"),
        (
            evidence([replace(GOOD, output_tokens=9)] * 4),
            "4 of 4 answers had another length than was asked for: 9 tokens instead of 10",
        ),
        (evidence([GOOD] * 4, replace(LOAD, warmup=0)), "nothing was warmed up"),
        (
            evidence([GOOD] * 4, client_cpu=0.93),
            "the client was saturated: one of its processes used 93% of a core",
        ),
        (
            evidence([replace(GOOD, cached_tokens=1500)] * 4),
            "50% of each prompt came from a cache, which was not asked for: were prompts of seed 123 sent before?",
        ),
    ],
)
def test_reasons(found: Evidence, said: str) -> None:
    assert reasons(found) == [said]


@pytest.mark.parametrize(
    ("load", "cached"),
    [
        (replace(LOAD, turns=2), 1500),
        (replace(LOAD, trace="t"), 1500),
        (replace(LOAD, prefix_tokens=1500), 1500),
        (replace(LOAD, prefix_tokens=1500), 1600),  # and what the template puts before it
    ],
)
def test_hits_that_were_asked_for(load: Load, cached: int) -> None:
    assert reasons(evidence([replace(GOOD, cached_tokens=cached)] * 4, load)) == []


def test_more_hits_than_the_shared_beginning_has() -> None:
    found = evidence([replace(GOOD, cached_tokens=1500)] * 4, replace(LOAD, prefix_tokens=500))
    assert reasons(found) == [
        "50% of each prompt came from a cache, 500 tokens were to: were prompts of seed 123 sent before?"
    ]


def test_hits_of_a_long_warm_up_are_not_those_of_the_run() -> None:
    """Counters of a server: 400 requests of warm-up and 4 more, each with 48 cached tokens of its template."""
    untold = replace(GOOD, cached_tokens=None)
    found = evidence([untold] * 4, replace(LOAD, warmup=400))
    after = {"dyno_cached_tokens_total": 404 * 48.0, "dyno_prompt_tokens_total": 404 * 3000.0}
    assert reasons(replace(found, metrics=with_counters(found.metrics, {}, after))) == []


@pytest.mark.parametrize("load", [replace(LOAD, trace="t"), replace(LOAD, output_stddev=3)])
def test_short_answers_of_requests_of_several_lengths(load: Load) -> None:
    samples = [replace(GOOD, output_tokens=n, asked_tokens=n) for n in (7, 9, 12)]
    assert reasons(evidence([*samples, GOOD], load)) == []
    assert reasons(evidence([*samples, replace(GOOD, output_tokens=1)], load)) == [
        "1 of 4 answers had another length than was asked for: 1 tokens instead of 10"
    ]


def test_the_head_of_a_chat_template_is_no_hit() -> None:
    assert reasons(evidence([replace(GOOD, cached_tokens=48)] * 4)) == []


def test_text_that_was_counted_by_a_tokenizer_may_be_a_little_off() -> None:
    off = [replace(GOOD, output_tokens=9, asked_tokens=10)] * 4
    assert reasons(evidence(off, exact=False)) == []
    assert len(reasons(evidence([replace(one, output_tokens=8) for one in off], exact=False))) == 1


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (snapshot(2, decode_0=(7, 0)), ["the topology was changed during the run: generation 1 → 2"]),
        (snapshot(decode_0=(8, 1)), ["decode-0 was restarted during the run"]),
        (snapshot(decode_0=(None, 0)), ["decode-0 was gone at the end of the run"]),
        (snapshot(), ["decode-0 was gone at the end of the run"]),
        (snapshot(decode_0=(7, 0), decode_1=(9, 0)), ["decode-1 was started during the run"]),
    ],
)
def test_what_happened_to_the_cluster(after: object, said: list[str]) -> None:
    assert list(changes(snapshot(decode_0=(7, 0)), after)) == said  # type: ignore[arg-type]

"""The last minute for people and for programs."""

from __future__ import annotations

import json

import pytest

from dynoctl.plan.figures import Figures, Spread
from dynoctl.show.figures import document, figures_lines, milliseconds

BUSY = Figures(
    seconds=60.0,
    processes=4,
    requests_per_s=12.34,
    tokens_per_s=1530.2,
    in_flight=3,
    retries=1,
    migrations=2,
    rejections={"no_worker": 1, "overloaded": 4},
    first_token=Spread(0.0412, 0.1234, 700),
    between_tokens=Spread(0.0081, 0.0153, 90000),
    queue=Spread(0.0004, 0.002, 700),
    kv_use=0.342,
    cached_share=0.611,
    remote_prefill_share=0.5,
    prefill_queue=1,
)


def test_a_busy_minute():
    assert list(figures_lines(BUSY)) == [
        "last minute    12.3 requests/s, 1,530 tokens/s, 3 in flight",
        "times          first token 41 ms p50, 123 ms p99; between tokens 8.1 ms p50, 15 ms p99; "
        "queue 0.40 ms p50, 2.0 ms p99",
        "KV cache       34% in use, 61% of prompt tokens were cached",
        "prefill        50% were remote, 1 in the queue",
        "trouble        5 rejected (no_worker 1, overloaded 4), 1 retried at another worker, "
        "2 went on at another worker",
    ]


def test_a_cluster_that_was_just_started():
    assert list(figures_lines(Figures(8.2, 3, 0.0, 0.0, 0))) == ["last 8 s       0.0 requests/s, 0 in flight"]


def test_an_engine_without_times_of_tokens():
    found = Figures(60.0, 3, 1.0, 0.0, 0, request=Spread(0.003, 1.5, 60), remote_prefill_share=1.0)
    assert list(figures_lines(found))[1:] == [
        "times          answer 3.0 ms p50, 1.5 s p99",
        "prefill        100% were remote",
    ]


def wish(now: int, wish: int, why: str) -> dict[str, object]:
    return {"now": now, "wish": wish, "why": why}


@pytest.mark.parametrize(
    ("decode", "prefill", "line"),
    [
        (
            wish(2, 1, "the KV load was 0 on average, below 0.5"),
            wish(1, 1, "at the minimum"),
            "would have 1 decode worker instead of 2, as the KV load was 0 on average, below 0.5",
        ),
        (wish(2, 2, ""), wish(1, 1, ""), "would keep 2 decode workers, 1 prefill worker"),
        (wish(2, 2, ""), None, "would keep 2 decode workers"),
    ],
)
def test_the_last_decision_of_the_planner(decode: object, prefill: object, line: str):
    planned = {"at": "2026-01-31T12:00:00.250Z", "decision": {"decode": decode, "prefill": prefill}}
    last = list(figures_lines(Figures(60.0, 3, 0.0, 0.0, 0, planned=planned)))[-1]
    assert last == f"planner        {line} (at 2026-01-31 12:00:00 UTC; it only watches)"


def test_a_decision_of_another_version_is_left_out():
    assert len(list(figures_lines(Figures(60.0, 3, 0.0, 0.0, 0, planned={"wish": 1})))) == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.00042, "0.42 ms"), (0.0081, "8.1 ms"), (0.12, "120 ms"), (3.44, "3.4 s")]
)
def test_times(seconds: float, text: str):
    assert milliseconds(seconds) == text


def test_for_programs():
    found = document(BUSY)
    assert found == json.loads(json.dumps(found))
    assert list(found or {})[:5] == ["seconds", "processes", "requests_per_s", "tokens_per_s", "in_flight"]
    assert (found or {})["first_token"] == {"p50_s": 0.0412, "p99_s": 0.1234, "count": 700}
    assert document(None) is None

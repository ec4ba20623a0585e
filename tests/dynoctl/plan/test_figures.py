"""Figures of a cluster: sums over processes, percentiles over their buckets together, and nonsense left out."""

from __future__ import annotations

from typing import Any

import pytest

from dynoctl.plan.figures import Figures, Spread, cluster_figures, quantile
from dynoctl.plan.observed import Observed, UnitSeen
from tests.dynoctl.plan.world import empty

BOUNDS = [0.01, 0.1, 1.0]


def minute(seconds: float, **more: Any) -> dict[str, Any]:
    return {"minute": {"seconds": seconds, "moved": {}, "now": {}, "histograms": {}, **more}}


def seen(*told: Any) -> Observed:
    units = {
        f"u-{number}": UnitSeen(f"u-{number}", "d", "running", alive=True, figures=one)
        for number, one in enumerate(told)
    }
    return Observed({"n1": empty("n1", units=units)})


def buckets(*counts: int) -> dict[str, Any]:
    return {"bounds": BOUNDS, "counts": list(counts), "total": 1.0}


def test_all_processes_together():
    first = "dyno_time_to_first_token_seconds"
    old = minute(
        60.0,
        moved={
            "dyno_requests_total{200}": 120,
            "dyno_requests_total{429}": 60,
            "dyno_rejections_total{overloaded}": 60,
            "dyno_answer_tokens_total": 6000,
            "dyno_prompt_tokens_total": 1000,
            "dyno_cached_tokens_total": 100,
            "dyno_retries_total{draining}": 2,
            "dyno_migrations_total{peer_lost}": 1,
        },
        now={"dyno_requests_in_flight{frontend}": 3, "dyno_requests_in_flight{decode}": 3},
        histograms={first: buckets(50, 40, 9, 0)},
    )
    young = minute(
        10.0,
        moved={"dyno_requests_total{200}": 10, "dyno_answer_tokens_total": 100},
        histograms={first: buckets(0, 0, 0, 1)},
    )
    worker = minute(
        60.0,
        moved={"dyno_prefills_total{local}": 3, "dyno_prefills_total{remote}": 1},
        now={"dyno_kv_blocks{active}": 25, "dyno_kv_blocks{total}": 100},
    )
    prefill = minute(60.0, now={"dyno_prefill_queue_tasks": 2, "dyno_kv_blocks{total}": 100})
    assert cluster_figures(seen(old, young, worker, prefill, prefill, None)) == Figures(
        seconds=60.0,
        processes=5,
        requests_per_s=4.0,
        tokens_per_s=110.0,
        in_flight=3,
        retries=2,
        migrations=1,
        rejections={"overloaded": 60},
        first_token=Spread(0.01, 1.0, 100),
        kv_use=25 / 300,
        cached_share=0.1,
        remote_prefill_share=0.25,
        prefill_queue=2,
    )


@pytest.mark.parametrize(
    ("counts", "part", "value"),
    [
        ([10, 0, 0, 0], 0.5, 0.005),
        ([10, 10, 0, 0], 0.75, 0.055),
        ([0, 0, 1, 0], 0.99, 0.01 * 0 + 0.1 + 0.9 * 0.99),
        ([0, 0, 0, 5], 0.5, 1.0),
        ([1, 0, 0, 1], 0.5, 0.01),
    ],
)
def test_percentiles_lie_within_their_bucket(counts: list[int], part: float, value: float):
    assert quantile(BOUNDS, counts, part) == pytest.approx(value)


@pytest.mark.parametrize(
    "nonsense", [{}, {"minute": 7}, {"minute": {"seconds": "x"}}, minute(1.0, moved=[1])]
)
def test_what_cannot_be_understood_is_left_out(nonsense: Any):
    assert cluster_figures(seen(nonsense)) is None
    both = cluster_figures(seen(nonsense, minute(5.0)))
    assert both is not None
    assert both.processes == 1


def test_nobody_tells_anything():
    assert cluster_figures(seen(None)) is None
    assert cluster_figures(Observed({})) is None

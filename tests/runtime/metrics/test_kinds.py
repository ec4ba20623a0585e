"""Counters, gauges and histograms, and their text, read back by Prometheus' own parser."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from dyno_runtime.metrics.kinds import Histogram, Meter, Metric

SAID = Metric("dyno_said_total", "counter", "Things said.", ("status", "who"))
HELD = Metric("dyno_held", "gauge", "Things held.")
TOOK = Metric("dyno_took_seconds", "histogram", "How long it took.", (), (0.1, 1.0, 10.0))


def read(meter: Meter) -> dict[str, float]:
    """All samples by name and labels."""
    return {
        f"{one.name}{sorted(one.labels.items())}": one.value
        for family in text_string_to_metric_families(meter.text().decode())
        for one in family.samples
    }


def test_the_text_of_each_kind():
    meter = Meter()
    meter.values(SAID).add(2, "200", 'the "first"\n\\')
    meter.values(SAID).add(1, "200", 'the "first"\n\\')
    meter.values(HELD).put(0.5)
    for seconds in (0.05, 0.1, 0.5, 99):
        meter.histogram(TOOK).observe(seconds)
    assert meter.text().decode().splitlines() == [
        "# HELP dyno_held Things held.",
        "# TYPE dyno_held gauge",
        "dyno_held 0.5",
        "# HELP dyno_said_total Things said.",
        "# TYPE dyno_said_total counter",
        'dyno_said_total{status="200",who="the \\"first\\"\\n\\\\"} 3',
        "# HELP dyno_took_seconds How long it took.",
        "# TYPE dyno_took_seconds histogram",
        'dyno_took_seconds_bucket{le="0.1"} 2',
        'dyno_took_seconds_bucket{le="1"} 3',
        'dyno_took_seconds_bucket{le="10"} 3',
        'dyno_took_seconds_bucket{le="+Inf"} 4',
        "dyno_took_seconds_sum 99.65",
        "dyno_took_seconds_count 4",
    ]
    assert read(meter)["dyno_said_total[('status', '200'), ('who', 'the \"first\"\\n\\\\')]"] == 3


def test_what_has_no_labels_is_there_before_it_happens():
    meter = Meter()
    meter.values(SAID)
    meter.values(HELD)
    meter.histogram(TOOK)
    found = read(meter)
    assert found["dyno_held[]"] == 0
    assert found["dyno_took_seconds_count[]"] == 0
    assert not any(name.startswith("dyno_said") for name in found)


@given(st.lists(st.floats(0, 20)))
def test_many_at_once_are_as_many_one_by_one(values: list[float]):
    together, alone = Histogram(TOOK), Histogram(TOOK)
    for value in values:
        alone.observe(value)
    together.observe_all(values[:])
    assert together.counts == alone.counts
    assert abs(together.total - alone.total) < 1e-6


def test_an_event_of_several_tokens_counts_as_several():
    one, each = Histogram(TOOK), Histogram(TOOK)
    one.observe(0.25, 4)
    each.observe_all([0.25] * 4)
    assert (one.counts, one.total) == (each.counts, each.total)

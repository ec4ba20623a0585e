"""The last minute: what moved within it, and nothing of what moved before."""

from __future__ import annotations

from dyno_runtime.metrics.kinds import Meter, Metric
from dyno_runtime.metrics.minute import WINDOW_S, Buckets, Minute, Ring

SAID = Metric("dyno_said_total", "counter", "Things said.", ("status",))
HELD = Metric("dyno_held", "gauge", "Things held.")
TOOK = Metric("dyno_took_seconds", "histogram", "How long it took.", (), (0.1, 1.0))


def test_a_young_process_tells_of_all_its_life():
    meter = Meter()
    ring = Ring(meter, 100.0)
    meter.values(SAID).add(3, "200")
    meter.values(HELD).put(7)
    meter.histogram(TOOK).observe(0.5)
    assert ring.look(102.5) == Minute(
        2.5,
        moved={"dyno_said_total{200}": 3},
        now={"dyno_held": 7},
        histograms={"dyno_took_seconds": Buckets((0.1, 1.0), [0, 1, 0], 0.5)},
    )


def test_what_moved_before_the_window_is_left_out():
    meter = Meter()
    ring = Ring(meter, 0.0)
    meter.values(SAID).add(100, "200")
    meter.histogram(TOOK).observe(5.0)
    for beat in range(1, 61):
        ring.keep(2.0 * beat)
        if beat == 40:
            meter.values(SAID).add(1, "200")
    found = ring.look(121.0)
    assert WINDOW_S <= found.seconds < WINDOW_S + 2.0
    assert found.moved == {"dyno_said_total{200}": 1}
    assert found.histograms == {}
    assert ring.look(121.0).moved == found.moved, "looking changes nothing"


def test_a_quiet_minute_has_gauges_only():
    meter = Meter()
    meter.values(HELD).put(0)
    ring = Ring(meter, 0.0)
    ring.keep(2.0)
    assert ring.look(4.0) == Minute(4.0, now={"dyno_held": 0})

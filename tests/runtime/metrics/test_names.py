"""Names follow the rules, and docs/metrics.md says the same as the code: of every metric, and of no other."""

from __future__ import annotations

import re
from pathlib import Path

from dyno_runtime.metrics.names import METRICS

DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"
ROW = re.compile(r"\| `(dyno_\w+)` \| (\w+) \| ([\w, ]*?) ?\| (.+) \|$", re.MULTILINE)


def test_the_documentation_says_what_the_code_does():
    documented = ROW.findall(DOCS.read_text())
    assert sorted(documented) == sorted(
        (one.name, one.kind, ", ".join(one.labels), one.help) for one in METRICS
    )


def test_names_have_their_unit_last():
    assert len({one.name for one in METRICS}) == len(METRICS)
    for one in METRICS:
        assert one.name.endswith("_total") == (one.kind == "counter"), one.name
        assert one.kind != "histogram" or one.name.endswith("_seconds"), one.name
        assert one.help.endswith("."), one.name


def test_buckets_rise_and_are_fine_enough_for_percentiles():
    for one in METRICS:
        assert (one.kind == "histogram") == bool(one.bounds)
        for lower, upper in zip(one.bounds, one.bounds[1:], strict=False):
            assert 1.0 < upper / lower <= 5 / 3 + 1e-9

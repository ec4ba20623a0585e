"""What ships for Prometheus and Grafana: it can be read, and asks for metrics and labels that exist alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from dyno_runtime.metrics.names import METRICS

TEMPLATES = Path(__file__).parents[1] / "templates"
DASHBOARD: dict[str, Any] = json.loads((TEMPLATES / "grafana.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
OF_A_TARGET = {"cluster", "node", "unit", "roles", "instance", "job"}


def shown_as(name: str) -> str:
    """The metric that a sample belongs to."""
    known = {one.name for one in METRICS}
    plain = re.sub(r"_(bucket|sum|count)$", "", name)
    return name if name in known else plain


def test_prometheus_finds_the_targets_in_the_file_that_dynoctl_writes():
    found = YAML(typ="safe").load((TEMPLATES / "prometheus.yml").read_text())
    assert found == {
        "global": {"scrape_interval": "15s"},
        "scrape_configs": [{"job_name": "dynoctl", "file_sd_configs": [{"files": ["targets.json"]}]}],
    }


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_there_is(panel: dict[str, Any]):
    by_name = {one.name: one for one in METRICS}
    assert panel["targets"]
    for target in panel["targets"]:
        expression = target["expr"]
        asked = {shown_as(name) for name in re.findall(r"dyno_\w+", expression)}
        assert asked
        assert asked <= by_name.keys()
        labels = OF_A_TARGET.union({"le"}, *(by_name[name].labels for name in asked))
        used = {name for group in re.findall(r"by \(([^)]*)\)", expression) for name in group.split(", ")}
        used |= set(re.findall(r'(\w+)="', expression)) | set(
            re.findall(r"{{(\w+)}}", target["legendFormat"])
        )
        assert used <= labels
        assert expression.count("(") == expression.count(")")
        assert 'cluster="$cluster"' in expression
        for name in asked:
            counted = by_name[name].kind != "gauge"
            assert (f"rate({name}" in expression) == counted, name


def test_panels_stand_beside_each_other():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in PANELS)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource", "cluster"]

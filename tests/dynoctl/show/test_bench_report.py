"""The report of a sweep: all points in one table before each by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dynoctl.show.bench.report import page
from tests.dynoctl.bench.made import LOAD, point, record


def test_a_sweep_begins_with_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "latency-throughput.png").write_bytes(b"png")
    slower = point(replace(LOAD, concurrency=20), 2.0, reasons=("nothing was warmed up",))
    said = page(record("a", point(), slower), tmp_path)
    first, drawn, *each = said.split("<h2>")[1:]
    assert first.startswith("Sweep</h2>")
    rows = [row.replace("<td>", "").split("</td>") for row in first.split("<tr>")[2:]]
    assert [(row[0], row[2], row[-2]) for row in rows] == [
        ("concurrency 10", "100.0", ""),
        ("concurrency 20", "100.0", "INVALID"),
    ]
    assert 'alt="latency against throughput" src="data:image/png;base64,cG5n"' in drawn
    assert [one.partition("</h2>")[0] for one in each[:3]] == [
        "concurrency 10",
        "concurrency 20 (INVALID)",
        "Machines",
    ]
    alone = page(record("a", point()), tmp_path)
    assert [one.partition("</h2>")[0] for one in alone.split("<h2>")[1:3]] == ["concurrency 10", "Plots"]

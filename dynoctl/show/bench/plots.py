"""The plots of a result: a program of its own, since what it draws with may be in another environment.

    python plots.py FOLDER

In: `record.json` and the `samples.jsonl` of every point. Out: PNG files beside the record, named on standard output.
Only the standard library and matplotlib are imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

MOST_ROWS = 8
INK, SOFT, WARM = "#1f2933", "#3b6ea5", "#c4572b"


def main(folder: Path) -> None:
    """Draw what there is."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
        }
    )
    record = json.loads((folder / "record.json").read_bytes())
    points = [point for point in record["points"] if point["metrics"]["requests"]]
    if len({label(point) for point in points}) > 1:
        _throughput(points, folder / "latency-throughput.png")
    for name, words, of in (
        ("ttft-over-time.png", "time to first token, ms", ttft_ms),
        ("itl-over-time.png", "inter-token latency, ms", itl_ms),
    ):
        rows = [
            (label(point), [(one["start_s"], value) for one in samples(folder, point) if (value := of(one))])
            for point in points
        ]
        _over_time([row for row in rows if row[1]][:MOST_ROWS], words, folder / name)


def samples(folder: Path, point: dict[str, Any]) -> list[dict[str, Any]]:
    """The requests of a point that were answered."""
    try:
        lines = (folder / point["raw"] / "samples.jsonl").read_text().splitlines()
    except OSError:
        return []
    return [one for one in map(json.loads, lines) if one["error"] is None]


def ttft_ms(one: dict[str, Any]) -> float | None:
    """Of one request."""
    return None if one["ttft_s"] is None else float(one["ttft_s"]) * 1e3


def itl_ms(one: dict[str, Any]) -> float | None:
    """Of one request; None where it had no two tokens."""
    if one["ttft_s"] is None or (one["output_tokens"] or 0) < 2:
        return None
    return (float(one["latency_s"]) - float(one["ttft_s"])) / (int(one["output_tokens"]) - 1) * 1e3


def label(point: dict[str, Any]) -> str:
    """What tells a point from the others."""
    load = point["load"]
    if load["trace"] is not None:
        return "trace"
    return f"{load['rate_per_s']:g} req/s" if load["rate_per_s"] is not None else f"c {load['concurrency']}"


def _throughput(points: list[dict[str, Any]], path: Path) -> None:
    import matplotlib.pyplot as plt

    panels = [
        ("ttft_ms", "time to first token, ms"),
        ("itl_ms", "inter-token latency, ms"),
        ("latency_ms", "request latency, ms"),
    ]
    panels = [panel for panel in panels if any(point["metrics"][panel[0]] for point in points)]
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.4), squeeze=False)
    for axis, (name, words) in zip(axes[0], panels, strict=True):
        shown = sorted(
            (point for point in points if point["metrics"][name]),
            key=lambda point: point["metrics"]["output_tokens_per_s"],
        )
        speed = [point["metrics"]["output_tokens_per_s"] for point in shown]
        for part, colour in (("p50", SOFT), ("p99", WARM)):
            axis.plot(
                speed, [point["metrics"][name][part] for point in shown], "o-", color=colour, label=part, ms=4
            )
        for x, point in zip(speed, shown, strict=True):
            axis.annotate(
                label(point),
                (x, point["metrics"][name]["p99"]),
                textcoords="offset points",
                xytext=(0, 6),
                ha="center",
                fontsize=7,
                color=INK,
            )
        axis.set(xlabel="output tokens/s", ylabel=words)
        axis.set_ylim(bottom=0)
        axis.margins(x=0.12, y=0.15)
        axis.legend(frameon=False, loc="upper left")
    _save(figure, path)


def _over_time(rows: list[tuple[str, list[tuple[float, float]]]], words: str, path: Path) -> None:
    """A row a point: every request at its time, and how they are distributed beside it."""
    if not rows:
        return
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(rows), 2, figsize=(8.4, 0.6 + 2.0 * len(rows)), squeeze=False, sharey="row", width_ratios=[4, 1]
    )
    for (left, right), (name, values) in zip(axes, rows, strict=True):
        times, taken = [at for at, _ in values], sorted(value for _, value in values)
        left.plot(times, [value for _, value in values], "o", color=SOFT, ms=3, alpha=0.6)
        for percent, style in ((50, "-"), (99, "--")):
            line = _percentile(taken, percent)
            left.axhline(line, color=WARM, lw=1, ls=style, label=f"p{percent}  {line:,.1f}")
        left.set_title(name, loc="left", fontsize=9, color=INK)
        left.set_ylim(bottom=0)
        left.legend(frameon=False, fontsize=7, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
        right.hist(taken, bins=30, orientation="horizontal", color=SOFT, alpha=0.6)
    axes[-1][0].set_xlabel("sent after, s")
    axes[-1][1].set_xlabel("requests")
    figure.supylabel(words, fontsize=9)
    _save(figure, path)


def _percentile(ordered: list[float], percent: int) -> float:
    """Between the two neighbours, linearly, as in the tables."""
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (place - low)


def _save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

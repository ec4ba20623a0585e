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
    loads = list(dict.fromkeys(label(point) for point in points))
    if len(loads) > 1:
        repeats = [[point for point in points if label(point) == one] for one in loads]
        _throughput(repeats, folder / "latency-throughput.png")
    for name, words, of in (
        ("ttft-over-time.png", "time to first token, ms", ttft_ms),
        ("itl-over-time.png", "inter-token latency, ms", itl_ms),
    ):
        rows = [
            (
                label(point, "concurrency"),
                [(one["start_s"], value) for one in samples(folder, point) if (value := of(one))],
            )
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


def label(point: dict[str, Any], concurrency: str = "c") -> str:
    """What tells a point from the others."""
    load = point["load"]
    if load["trace"] is not None:
        return "trace"
    return (
        f"{load['rate_per_s']:g} req/s"
        if load["rate_per_s"] is not None
        else f"{concurrency} {load['concurrency']}"
    )


def _throughput(repeats: list[list[dict[str, Any]]], path: Path) -> None:
    """A mark for each load: of its repeats the mean."""
    from matplotlib.figure import Figure  # not pyplot, which takes twice as long to come
    from matplotlib.ticker import MaxNLocator

    panels = [
        ("ttft_ms", "time to first token, ms"),
        ("itl_ms", "inter-token latency, ms"),
        ("latency_ms", "request latency, ms"),
    ]
    panels = [
        panel for panel in panels if any(point["metrics"][panel[0]] for one in repeats for point in one)
    ]
    figure = Figure(figsize=(4.2 * len(panels), 3.4))
    axes = figure.subplots(1, len(panels), squeeze=False)
    for axis, (name, words) in zip(axes[0], panels, strict=True):
        marks = sorted(mark for one in repeats if (mark := _mark(one, name)) is not None)
        speeds = [mark[0] for mark in marks]
        for place, part, colour in ((1, "p50", SOFT), (2, "p99", WARM)):
            axis.plot(speeds, [mark[place] for mark in marks], "o-", color=colour, label=part, ms=4)
        for speed, _, slow, said in marks:
            axis.annotate(
                said,
                (speed, slow),
                textcoords="offset points",
                xytext=(0, 6),
                ha="center",
                fontsize=7,
                color=INK,
            )
        axis.set(xlabel="output tokens/s", ylabel=words)
        axis.margins(x=0.12)
        axis.set_ylim(0, max(mark[2] for mark in marks) * 1.2)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.legend(frameon=False, loc="upper left", ncols=2)
    _save(figure, path, 0.28)


def _mark(repeats: list[dict[str, Any]], name: str) -> tuple[float, float, float, str] | None:
    """Tokens/s, p50, p99 and label of one load; None where it has no such figure."""
    shown = [point for point in repeats if point["metrics"][name]]
    if not shown:
        return None
    speed = sum(point["metrics"]["output_tokens_per_s"] for point in shown) / len(shown)
    p50, p99 = (sum(point["metrics"][name][part] for point in shown) / len(shown) for part in ("p50", "p99"))
    return speed, p50, p99, label(shown[0])


def _over_time(rows: list[tuple[str, list[tuple[float, float]]]], words: str, path: Path) -> None:
    """A row a point: every request at its time, and how they are distributed beside it."""
    if not rows:
        return
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8.4, 0.6 + 2.0 * len(rows)))
    axes = figure.subplots(len(rows), 2, squeeze=False, sharey="row", width_ratios=[4, 1])
    for (left, right), (name, values) in zip(axes, rows, strict=True):
        times, taken = [at for at, _ in values], sorted(value for _, value in values)
        left.plot(times, [value for _, value in values], "o", color=SOFT, ms=3, alpha=0.6)
        for percent, style in ((50, "-"), (99, "--")):
            line = _percentile(taken, percent)
            left.axhline(line, color=WARM, lw=1, ls=style, label=f"p{percent}  {_number(line)}")
        left.set_title(name, loc="left", fontsize=9, color=INK)
        left.set_ylim(0, (taken[-1] or 1.0) * 1.1)
        left.legend(frameon=False, fontsize=7, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
        right.hist(taken, bins=30, orientation="horizontal", color=SOFT, alpha=0.6)
        right.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes[-1][0].set_xlabel("sent after, s")
    axes[-1][1].set_xlabel("requests")
    figure.supylabel(words, fontsize=9, x=0.01)
    _save(figure, path, 0.06)


def _number(value: float) -> str:
    """As in the tables."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _percentile(ordered: list[float], percent: int) -> float:
    """Between the two neighbours, linearly, as in the tables."""
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (place - low)


def _save(figure: Any, path: Path, wspace: float) -> None:
    # Room for the words, in inches; to have it worked out takes as long as to draw.
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left=0.75 / width,
        right=1 - 0.15 / width,
        bottom=0.5 / height,
        top=1 - 0.35 / height,
        wspace=wspace,
        hspace=0.45,
    )
    figure.savefig(path, dpi=120)
    sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Tables of figures, the same in every benchmark: plain Markdown that goes into docs/performance.md as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured, in seconds."""

    name: str
    wall_s: float
    cpu_s: float

    def cells(self, base: Row) -> list[str]:
        """The row, with ratios to `base`."""
        return [
            self.name,
            f"{self.wall_s:.2f}",
            f"{self.wall_s / base.wall_s:.2f}",
            f"{self.cpu_s:.2f}",
            f"{self.cpu_s / base.cpu_s:.2f}",
        ]


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)

"""The report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dynoctl.bench.record import Record


def write(folder: Path, record: Record, warn: Callable[[str], None]) -> Path:
    """The page."""
    return folder / "report.html"

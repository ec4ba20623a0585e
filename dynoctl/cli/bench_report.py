"""The files of a result for people: plots and report.html.

In: a result's folder and record. Out: the page's path. Plots are drawn by matplotlib, wherever it is: beside dynoctl
(the extra `bench`), in the tool's environment, or in one that is made for it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from dynoctl.bench.record import Record
from dynoctl.cli import known
from dynoctl.errors import DynoctlError
from dynoctl.probe.bench.environment import Environment
from dynoctl.probe.bench.store import writing
from dynoctl.show.bench import plots
from dynoctl.show.bench.report import page
from dynoctl.show.terminal import Terminal

MATPLOTLIB = "matplotlib>=3.9,<4"
DRAW_S = 120.0


def report(folder: Path, record: Record, tool: Environment | None, terminal: Terminal) -> Path:
    """Draw and write. Plots that cannot be drawn are left out with a warning.

    Raises:
        DynoctlError: the page cannot be written.
    """
    try:
        _draw(folder, _python(tool, terminal))
    except DynoctlError as error:
        terminal.warn(f"there are no plots in the report: {error.message}")
    path = folder / "report.html"
    with writing(folder):
        path.write_text(page(record, folder), encoding="utf-8")
    return path


def _python(tool: Environment | None, terminal: Terminal) -> str:
    """An interpreter that has matplotlib. Raises DynoctlError."""
    if importlib.util.find_spec("matplotlib") is not None:
        return sys.executable
    if tool is not None and any(tool.folder.glob("lib/*/site-packages/matplotlib")):
        return tool.program("python")
    environment = Environment(known.home() / "bench" / "envs", "plots", (MATPLOTLIB,))
    environment.ensure(terminal.say)
    return environment.program("python")


def _draw(folder: Path, python: str) -> None:
    command = [python, "-I", str(Path(plots.__file__)), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DRAW_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise DynoctlError(str(error)) from None
    if done.returncode:
        raise DynoctlError((done.stderr.strip().splitlines() or ["no reason given"])[-1])

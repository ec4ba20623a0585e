"""A result of a benchmark on standard output.

In: a record, its folder if it is kept in one. Out: tables and a verdict, or JSON.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from dynoctl.bench.record import Record, plain
from dynoctl.show import json as show_json
from dynoctl.show.bench import table
from dynoctl.show.terminal import NobodyReads, Terminal


def tell(record: Record, folder: Path | None, terminal: Terminal, *, json: bool) -> None:
    """A result, for people or programs. That nobody reads it changes nothing."""
    with contextlib.suppress(NobodyReads):
        _print(record, folder, terminal, json=json)


def _print(record: Record, folder: Path | None, terminal: Terminal, *, json: bool) -> None:
    if json:
        terminal.result(show_json.document({"folder": folder and str(folder), **plain(record)}))
        return
    for line in table.head(record):
        terminal.result(line)
    terminal.result()
    if len(record.points) == 1:
        terminal.result(table.spreads(record.points[0]))
        terminal.result()
        for line in table.totals(record.points[0]):
            terminal.result(line)
    else:
        terminal.result(table.sweep(record.points))
    terminal.result()
    for line in table.verdict(record):
        terminal.result(line)
    if folder is not None:
        terminal.result(f"result      {folder}")

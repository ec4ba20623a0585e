"""Traces in Mooncake's JSONL form: when requests came, how long they were, and which beginnings they shared.

In: a file with `timestamp` (ms), `input_length`, `output_length` and `hash_ids` (one for each 512 tokens begun) in
each line. Out: `Row`s in the order of time.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from dynoctl.errors import UsageError

BLOCK_TOKENS = 512


class Row(msgspec.Struct, frozen=True):
    """One request."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int] = []


def read(path: Path) -> list[Row]:
    """Raises UsageError with the line that is wrong."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"--trace {path} cannot be read: {error.strerror}") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line, type=Row)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise UsageError(f"{path}:{number}: not a request of a Mooncake trace: {error}") from None
        if row.input_length < 1 or row.output_length < 1:
            raise UsageError(f"{path}:{number}: input_length and output_length must be above 0")
        rows.append(row)
    if not rows:
        raise UsageError(f"{path} holds no request")
    return sorted(rows, key=lambda row: row.timestamp)

"""Which seeds were used against a server: no prompt of an earlier run may be met in its cache.

In: a server's URL, a model, how many seeds are needed. Out: the first of as many in a row. Kept apart from the
results, since those may lie anywhere, or were never kept.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec


@dataclass(frozen=True, slots=True)
class Seeds:
    """Those of this machine, in a file."""

    file: Path

    def take(self, url: str, model: str, count: int, *, first: int, typed: int | None) -> int:
        """What was typed; else from `first` on one above all that were taken. That it cannot be noted is no error."""
        noted = self._noted()
        key = f"{url} {model}"
        last = noted.get(key, first - 1)
        begin = last + 1 if typed is None else typed
        noted[key] = max(last, begin + count - 1)
        beside = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside.write_bytes(msgspec.json.encode(noted))
            beside.replace(self.file)
        return begin

    def _noted(self) -> dict[str, int]:
        try:
            return msgspec.json.decode(self.file.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.MsgspecError):
            return {}

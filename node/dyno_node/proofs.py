"""Which files of a folder are those of their source: a record of SHA-256 sums that were compared once.

In: a path for the record. Out: the record, whole at any time, one entry a file with its size and its time when it was
compared, here and at the source. A file that changed on either side has another time and is compared anew.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from dyno_node.files import read_json, write_json


class Proofs:
    """The record of one folder; several threads may add to it."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        kept = (read_json(path) or {}).get("files")
        self._value: dict[str, Any] = {"folder": str(folder), "files": kept if isinstance(kept, dict) else {}}

    def has(self, name: str, found: os.stat_result, source_changed_ns: int) -> bool:
        """Whether this very file was compared with the source's."""
        kept = self._value["files"].get(name)
        wanted = _entry(found, source_changed_ns)
        return isinstance(kept, dict) and {key: kept.get(key) for key in wanted} == wanted

    def add(self, name: str, found: os.stat_result, source_changed_ns: int, sha256: str) -> None:
        """Both have this sum. On the disk at once: sums of hundreds of gigabytes are not computed twice."""
        with self._guard:
            self._value["files"][name] = {**_entry(found, source_changed_ns), "sha256": sha256}
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_json(self._path, self._value)


def _entry(found: os.stat_result, source_changed_ns: int) -> dict[str, int]:
    return {
        "size_bytes": found.st_size,
        "changed_ns": found.st_mtime_ns,
        "source_changed_ns": source_changed_ns,
    }

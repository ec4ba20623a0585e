"""JSON files that survive a power loss: whole or not there, never half.

In: a path and a value. Out: the value on the disk under its name, or the old one. One writer at a time is
the caller's business (the unit's locks see to it).
"""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, value: object) -> None:
    """Replace `path` (0600) by `value`.

    Order: new content beside it and on the disk, then the rename, then the rename on the disk. Power lost at
    any point leaves the old file or the new one; a `.tmp` that stays behind is overwritten by the next write.

    Raises:
        OSError: the disk is full, the folder is gone, or it may not be written.
    """
    beside = path.with_name(path.name + ".tmp")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(json.dumps(value).encode() + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
    beside.replace(path)
    _sync_folder(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`; None where there is no such file, or where it is torn or no object at all."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def sync(folder: Path) -> None:
    """Everything that was written to the file system of `folder` is on the disk: many small files at one price.

    Raises:
        OSError: the disk failed while it was written to.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError:
        pass  # Some network file systems refuse this; the rename itself is as durable as they make it.
    finally:
        os.close(fd)

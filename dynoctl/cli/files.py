"""Reading a topology file: the only place of dynoctl that opens one.

In: a path and `--set` arguments. Out: a checked `Topology`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dynoctl.errors import UsageError

if TYPE_CHECKING:
    from dynoctl.topology.model import Topology

MAX_BYTES = 2_000_000


def read_topology(path: str, overrides: Sequence[str] = ()) -> Topology:
    """The topology in the file at `path`, with `overrides` laid over it.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        TopologyError: the file is wrong; all its problems are in `detail`.
    """
    from dynoctl.topology.load import parse

    return parse(_content(path), path, overrides)


def _content(path: str) -> bytes:
    try:
        # Not blocking: a named pipe without a writer would hold us for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            kind = os.fstat(descriptor)
            if stat.S_ISREG(kind.st_mode) and kind.st_size <= MAX_BYTES:
                with open(descriptor, "rb", closefd=False) as file:
                    return file.read()
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}", next=_beside(path)) from None
    except PermissionError:
        raise UsageError(f"{path} may not be read by this user", next=f"ls -l {path}") from None
    except (OSError, ValueError) as error:
        shown = path if path.isprintable() else repr(path)
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{shown} cannot be read: {why}") from None
    if stat.S_ISREG(kind.st_mode):
        raise UsageError(f"{path} has {kind.st_size:,} bytes, which is no topology (at most {MAX_BYTES:,})")
    what = "a folder" if stat.S_ISDIR(kind.st_mode) else "no plain file"
    raise UsageError(f"{path} is {what}; dynoctl reads one YAML file", next=_beside(path))


def _beside(path: str) -> str:
    """What to type to see the topologies that are near."""
    folder = Path(path)
    while folder != folder.parent and not folder.is_dir():
        folder = folder.parent
    return f"ls {folder}/*.yaml"

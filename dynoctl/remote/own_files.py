"""Files of this user on this machine, which nobody else may read: whole or not there, also after a power loss.

In: a path and a content. Out: the file (0600 unless said otherwise), in folders that are 0700 where we make them.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path


def make_folders(folder: Path) -> None:
    """Every missing folder with mode 0700 (`mkdir(parents=True)` gives its mode to the last one only)."""
    missing = [above for above in (folder, *folder.parents) if not above.exists()]
    for above in reversed(missing):
        above.mkdir(mode=0o700, exist_ok=True)


def replace(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """The content under its name, by rename: a reader never meets half a file.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    part = path.with_name(f"{path.name}.part-{os.getpid()}-{threading.get_ident()}")
    try:
        with os.fdopen(
            os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb"
        ) as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise

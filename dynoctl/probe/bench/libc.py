"""The C library: which one this machine has, and how to run a binary with a newer one from a folder.

In: a folder of libraries, flat or as a Debian package unpacks them. Out: a program that starts a binary with them.
"""

from __future__ import annotations

import platform
import shlex
from pathlib import Path

from dynoctl.errors import UsageError

LIBRARIES = (
    "libc.so.6",
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "libz.so.1",
    "libssl.so.3",
    "libcrypto.so.3",
    "libzstd.so.1",
)


def glibc() -> tuple[int, int]:
    """The version here; (0, 0) where the C library is another one."""
    name, said = platform.libc_ver()
    numbers = said.split(".")
    return (int(numbers[0]), int(numbers[1])) if name == "glibc" and len(numbers) >= 2 else (0, 0)


def launcher(libraries: Path, binary: Path, place: Path) -> None:
    """Write a program `place` that starts `binary` with these libraries. Raises UsageError where one is missing."""
    loaders = sorted(libraries.rglob("ld-linux-*.so*"))
    found = {name: sorted(libraries.rglob(name)) for name in LIBRARIES}
    missing = [name for name, places in found.items() if not places]
    if not loaders or missing:
        what = ", ".join(missing) if missing else "the loader ld-linux-*.so"
        raise UsageError(f"--libc {libraries}: there is no {what} in it", next="scripts/bench-libc FOLDER")
    folders = ":".join(dict.fromkeys(str(places[0].parent.absolute()) for places in found.values()))
    command = [str(loaders[0].absolute()), "--library-path", folders, str(binary)]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    place.chmod(0o755)

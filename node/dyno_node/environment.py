"""Python environments on a node: built once for a digest, by one builder at a time, whole or not at all.

In: a folder named by its digest, requirements, and where wheels come from. Out: the folder with `bin/python` and,
as the very last thing, `.complete`. A folder without it is what a power loss left, and is built anew.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

IMPORTS = ("msgspec", "uvloop", "httptools", "nats", "aetcd")
BUILD_TIMEOUT_S = 1800


class EnvironmentRefused(Exception):
    """The environment cannot be made or used; the message is a sentence for people."""


def make(
    folder: Path,
    requirements: Sequence[str],
    *,
    python: str | None,
    wheelhouse: str | None,
    index_url: str | None,
) -> Iterator[str]:
    """Ensure that `folder` is a whole environment; with `python`, check that one instead of building.

    Yields what it is about to do, in words.

    Raises:
        EnvironmentRefused: with what pip or python said last.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # a second builder waits here, then finds it whole
        complete = folder / ".complete"
        if complete.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        if python:
            folder.mkdir(mode=0o700)
            yield "importing what the runtime needs"
            _check(str(Path(python).expanduser()))
        else:
            yield from _build(folder, requirements, wheelhouse, index_url)
            _check(str(folder / "bin" / "python"))
        complete.touch()


def _build(
    folder: Path,
    requirements: Sequence[str],
    wheelhouse: str | None,
    index_url: str | None,
) -> Iterator[str]:
    yield "making a virtual environment"
    _run(
        [sys.executable, "-I", "-m", "venv", str(folder)],
        "python3 cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)",
    )
    pip = [str(folder / "bin" / "python"), "-I", "-m", "pip", "install", "--disable-pip-version-check"]
    source = ["--no-index", "--find-links", wheelhouse] if wheelhouse else []
    # An index URL may carry a password, so it goes by the environment and never into argv.
    secret = {"PIP_INDEX_URL": index_url} if index_url else {}
    yield f"installing {len(requirements)} packages and what they need"
    _run(
        [*pip, "--quiet", "--no-input", *source, *requirements],
        "pip could not install the runtime's packages"
        + (
            ""
            if wheelhouse
            else " (no way to a package index? name a wheelhouse in the topology: install.wheelhouse)"
        ),
        secret,
    )


def _check(python: str) -> None:
    """Import what the runtime imports; the version is part of it."""
    probe = f"import sys; assert sys.version_info >= (3, 11), sys.version; import {', '.join(IMPORTS)}"
    _run([python, "-c", probe], f"{python} cannot import what the runtime needs ({', '.join(IMPORTS)})")


def _run(argv: list[str], failure: str, extra: dict[str, str] | None = None) -> None:
    """Run to the end; on failure raise with the last lines that it printed."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_TARGET"))
    }
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**clean, **(extra or {})},
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise EnvironmentRefused(f"{argv[0]} does not exist on this node") from None
    except PermissionError:
        raise EnvironmentRefused(f"{argv[0]} may not be run by this user") from None
    except subprocess.TimeoutExpired:
        raise EnvironmentRefused(f"{failure}: not done after {BUILD_TIMEOUT_S} s") from None
    if done.returncode != 0:
        tail = done.stdout.decode(errors="replace").strip().splitlines()[-8:]
        raise EnvironmentRefused("\n".join([failure, *tail]))

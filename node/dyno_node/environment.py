"""Python environments on a node: built once for a digest, by one builder at a time, whole or not at all.

In: a folder named by its digest, requirements, and where wheels come from. Out: the folder with `bin/python` and,
as the very last thing, `.complete`. A folder without it is what a power loss left, and is built anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from dyno_node import lock
from dyno_node.files import sync
from dyno_node.request import Refused

BUILD_TIMEOUT_S = 1800
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

# Prints the version of Python, then the distributions that it lacks. Nothing is imported: that takes a second.
# Only lines that begin with "= " count: an interpreter may have other things to say.
_PROBE = """
import importlib.metadata, platform, sys
print("=", platform.python_version())
for name in sys.argv[1:]:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        print("=", name)
"""


class EnvironmentRefused(Refused):
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
    with lock.guard(
        folder.parent / f"{folder.name}.lock"
    ):  # a second builder waits here, then finds it whole
        complete = folder / ".complete"
        if complete.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        if python:
            folder.mkdir(mode=0o700)
            yield "looking for what the runtime needs"
            _check(str(Path(python).expanduser()), requirements)
        else:
            yield from _build(folder, requirements, wheelhouse, index_url)
            _check(str(folder / "bin" / "python"), requirements)
            sync(folder)  # before `.complete` says that it is whole
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


def _check(python: str, requirements: Sequence[str]) -> None:
    """The interpreter is new enough and has every distribution that the requirements name."""
    names = [found[0] for line in requirements if (found := _NAME.match(line))]
    said = _run([python, "-c", _PROBE, *names], f"{python} cannot be used").splitlines()
    version, *missing = [line[2:] for line in said if line.startswith("= ")] or ["?"]
    if version == "?":
        raise EnvironmentRefused("\n".join([f"{python} is no Python", *said[-5:]]))
    if tuple(int(part) for part in version.split(".")[:2]) < (3, 11):
        raise EnvironmentRefused(f"{python} is Python {version}; the runtime needs 3.11 or newer")
    if missing:
        raise EnvironmentRefused(
            f"{python} lacks what the runtime needs: {', '.join(missing)}\n"
            f"install it there: {python} -m pip install {' '.join(missing)}"
        )


def _run(argv: list[str], failure: str, extra: dict[str, str] | None = None) -> str:
    """Run to the end and return what it printed; on failure raise with the last lines of it."""
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
    return done.stdout.decode(errors="replace")

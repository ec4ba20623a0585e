"""Python environments on a node: built once for a digest, by one builder at a time, whole or not at all.

In: a folder named by its digest, requirements, and where wheels come from. Out: the folder with `bin/python` and,
as the very last thing, `.complete`. A folder without it is what a power loss left, and is built anew.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from dyno_node import lock
from dyno_node.defects import ASKED, defects, superfluous
from dyno_node.files import sync
from dyno_node.pip import EnvironmentRefused as EnvironmentRefused
from dyno_node.pip import install, run
from dyno_node.versions import allows, name_of

BUILD_TIMEOUT_S = 3600  # vLLM with all that it needs is ten gigabytes

# Prints the version of Python, then the distributions that it lacks, then those that it has with their versions.
# Nothing is imported: that takes a second. Only lines that begin with a sign count: an interpreter may have other
# things to say.
_PROBE = """
import importlib.metadata, platform, sys
print("=", platform.python_version())
for name in sys.argv[1:]:
    try:
        print("+", name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        print("-", name)
"""


def make(
    folder: Path,
    requirements: Sequence[str],
    *,
    python: str | None,
    wheelhouse: str | None,
    index_url: str | None,
    extra_index_url: str | None = None,
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
            # An index URL may carry a password, so it goes by the environment and never into argv.
            indexes = {"PIP_INDEX_URL": index_url, "PIP_EXTRA_INDEX_URL": extra_index_url}
            yield from _build(folder, requirements, wheelhouse, {k: v for k, v in indexes.items() if v})
            _check(str(folder / "bin" / "python"), requirements)
            sync(folder)  # before `.complete` says that it is whole
        complete.touch()


def _build(
    folder: Path, requirements: Sequence[str], wheelhouse: str | None, indexes: dict[str, str]
) -> Iterator[str]:
    yield "making a virtual environment"
    run(
        [sys.executable, "-I", "-m", "venv", str(folder)],
        "python3 cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)",
        BUILD_TIMEOUT_S,
    )
    python = str(folder / "bin" / "python")
    count = "1 package" if len(requirements) == 1 else f"{len(requirements)} packages"
    yield f"installing {count}, and what is needed for that"
    yield from install(python, requirements, wheelhouse, indexes, BUILD_TIMEOUT_S)
    _, has, _ = _probe(python, requirements)
    if unwanted := superfluous(has):
        yield f"removing what is built for CUDA: {', '.join(unwanted)}"
        failure = f"pip could not remove {', '.join(unwanted)}"
        run([python, "-I", "-m", "pip", "uninstall", "--quiet", "--yes", *unwanted], failure, BUILD_TIMEOUT_S)


def _probe(python: str, requirements: Sequence[str]) -> tuple[str, dict[str, str], list[str]]:
    """The version of Python, the versions of what was asked for, and what of the requirements is missing."""
    names = [name_of(line) for line in requirements]
    asked = dict.fromkeys((*names, *ASKED))
    said = run([python, "-c", _PROBE, *asked], f"{python} cannot be used", BUILD_TIMEOUT_S).splitlines()
    version = next((line[2:] for line in said if line.startswith("= ")), None)
    if version is None:
        raise EnvironmentRefused("\n".join([f"{python} is no Python", *said[-5:]]))
    pairs = [line[2:].split(" ", 1) for line in said if line.startswith("+ ")]
    missing = [line[2:] for line in said if line.startswith("- ") and line[2:] in names]
    return version, {pair[0]: pair[-1] for pair in pairs}, missing


def _check(python: str, requirements: Sequence[str]) -> None:
    """The interpreter is new enough, has every distribution that the requirements name, and can work with them."""
    version, has, missing = _probe(python, requirements)
    if tuple(int(part) for part in version.split(".")[:2]) < (3, 11):
        raise EnvironmentRefused(f"{python} is Python {version}; the runtime needs 3.11 or newer")
    if missing:
        raise EnvironmentRefused(
            f"{python} lacks what the runtime needs: {', '.join(missing)}\n"
            f"install it there: {python} -m pip install {' '.join(missing)}"
        )
    wrong = [
        (line, has[name])
        for line in requirements
        if (name := name_of(line)) in has and not allows(line, has[name])
    ]
    if wrong:
        found = ", ".join(f"{name_of(line)} {had}" for line, had in wrong)
        wanted = " ".join(shlex.quote(line) for line, _ in wrong)
        raise EnvironmentRefused(
            f"{python} has other versions than the runtime needs: {found}\n"
            f"install these there: {python} -m pip install {wanted}"
        )
    for defect in defects(has):
        removal = f"{python} -m pip uninstall -y {' '.join(defect.remove)}"
        raise EnvironmentRefused(
            f"{python}: {defect.text}" + (f"\nrun there: {removal}" if defect.remove else "")
        )

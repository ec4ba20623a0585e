"""The environment of the real engines on lab hosts: vLLM for CPUs and Ray, installed once on this machine.

In: `scripts/test-vllm`, which makes it. Out: what a lab shows its hosts of it, and an interpreter there that uses it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.lab.host import Host

ROOT = Path(__file__).resolve().parents[2]
PACKAGES, MODELS = "/opt/engines/packages", "/opt/engines/models"  # on the hosts
PYTHON = "/home/dyn/engines/bin/python"
INTERPRETER = "/usr/bin/python3"  # of the hosts: that of this machine may be where they cannot see it


def _folder(word: str = "path") -> Path:
    done = subprocess.run([ROOT / "scripts/test-vllm", word], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def _packages() -> Path:
    return next(iter((_folder() / "lib").glob("python3.*")), Path("none")) / "site-packages"


def missing() -> str | None:
    """Why there is no such environment, as a sentence; None where there is one."""
    if not _folder("models").exists():
        return "the environment of the real engines is not there; make it with: scripts/test-vllm"
    wanted = _packages().parent.name
    version = 'import sys; print("python%d.%d" % sys.version_info[:2])'
    done = subprocess.run([INTERPRETER, "-c", version], capture_output=True, text=True)
    if done.stdout.strip() != wanted:
        return f"the environment of the real engines is for {wanted}, and lab hosts have {INTERPRETER}"
    return None


def shown() -> Mapping[str, Path]:
    """What a lab is started with."""
    return {PACKAGES: _packages(), MODELS: _folder("models")}


def prepare(host: Host) -> None:
    """Make the interpreter on a host."""
    host.exec([INTERPRETER, "-m", "venv", "--without-pip", "/home/dyn/engines"], user="dyn", check=True)
    version = _packages().parent.name
    link = f"/home/dyn/engines/lib/{version}/site-packages/engines.pth"
    host.exec(["sh", "-c", 'echo "$1" > "$2"', "sh", PACKAGES, link], user="dyn", check=True)

"""What kind of machine it is, asked of every node and of the one that measures: hardware, kernel, versions.

In: an interpreter there. Out: a script for sh; and from what it prints, a `Machine`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from dynoctl.bench.record import Machine
from dynoctl.plan.script import NodePath, words

PROGRAM = r"""
import json, os, platform, subprocess
from importlib import metadata
processor = ""
try:
    with open("/proc/cpuinfo") as lines:
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
except OSError:
    pass
engines = {}
for name in ("vllm", "torch"):
    try:
        engines[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
try:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    asked = subprocess.run(query, capture_output=True, text=True, timeout=10)
    gpus = asked.stdout.split("\n") if asked.returncode == 0 else []
except (OSError, subprocess.SubprocessError):
    gpus = []
print(json.dumps({
    "hostname": platform.node(), "processor": processor or platform.machine(), "cores": os.cpu_count() or 0,
    "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "kernel": platform.release(),
    "gpus": [line.strip() for line in gpus if line.strip()], "python": platform.python_version(),
    "engines": engines,
}))
"""


@dataclass(frozen=True, slots=True)
class Question:
    """What to run on a node. `code` is the digest of the runtime there."""

    python: str
    code: str | None = None

    @property
    def script(self) -> str:
        """For sh."""
        return f"exec {words(NodePath(self.python), '-I', '-c', PROGRAM)}"


def parse(out: bytes, code: str | None = None) -> Machine:
    """From what was printed. Raises ValueError where it is something else."""
    found = json.loads(out)
    return Machine(**found, code=code)

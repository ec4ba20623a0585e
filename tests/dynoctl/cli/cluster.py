"""A cluster on this machine alone: its file, its folders, and dynoctl as people call it.

In: a folder of the test. Out: runs of verbs; at the end nothing of the cluster is left, whatever happened.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyno_node import members, proc
from tests.servers import free_port

TEXT = """\
name: NAME
model: {{id: hello}}
engine: {{kind: hello}}
nodes: {{local: {{state_dir: {root}}}}}
services: {{etcd: {{port: {etcd}}}, nats: {{port: {nats}}}}}
roles:
  frontend: {{port: {http}, stream_port: {stream}}}
  processor: {{}}
  router: {{policy: similar}}
  decode:
    - {{stream_port: {decode0}, engine: {{args: {{hostname: decode-0}}}}}}
    - {{stream_port: {decode1}, engine: {{args: {{hostname: decode-1}}}}}}
  prefill: {{stream_port: {prefill}}}
disagg: {{mode: conditional, max_local_prefill_length: 20}}
env: {{API_KEY: hush-4711}}
"""
SMALL = """\
name: NAME
model: {{id: hello}}
engine: {{kind: hello}}
nodes: {{local: {{state_dir: {root}}}}}
services: {{etcd: {{port: {etcd}}}, nats: {{port: {nats}}}}}
roles:
  frontend: {{port: {http}, stream_port: {stream}}}
  processor: {{}}
  router: {{policy: similar}}
  decode: {{stream_port: {decode0}}}
"""
LONG_S = 120.0


@dataclass
class Done:
    """One run of dynoctl."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Cluster:
    """A topology file for this machine, with ports and folders of its own."""

    def __init__(self, folder: Path, name: str, text: str = TEXT) -> None:
        self.folder = folder
        self.name = name
        self.root = folder / "state"
        self.file = folder / f"{name}.yaml"
        uses = ("etcd", "nats", "http", "stream", "decode0", "decode1", "prefill")
        self.ports = {use: free_port() for use in uses}
        self.file.write_text(text.replace("NAME", name).format(root=self.root, **self.ports))
        self.env = {**os.environ, "DYNOCTL_HOME": str(folder / "home"), "NO_COLOR": "1"}
        self.env.pop("DYNOCTL_AS", None)

    @property
    def units(self) -> Path:
        return self.root / "clusters" / self.name / "local" / "units"

    def popen(self, *argv: str, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dynoctl", *argv],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            **more,
        )

    def run(self, *argv: str) -> Done:
        with self.popen(*argv) as process:
            try:
                out, err = process.communicate(timeout=LONG_S)
            except BaseException:
                process.kill()
                raise
        return Done(process.returncode, out, err)

    def state(self, unit: str) -> dict[str, Any]:
        value = json.loads((self.units / unit / "state.json").read_text())
        assert isinstance(value, dict)
        return value

    def pids(self) -> dict[str, int]:
        """The process of every unit."""
        return {path.name: self.state(path.name)["pid"] for path in sorted(self.units.iterdir())}

    def alive(self) -> list[str]:
        """Units that have a process, supervisors included, by their marks."""
        found = (each.folder for each in members.marked())
        return sorted({Path(folder).name for folder in found if folder.startswith(f"{self.root}/")})

    def end(self) -> None:
        """Take it down; then nothing may be left. Fails the test otherwise, after killing it."""
        done = self.run("down", str(self.file))
        left = [each for each in members.marked() if each.folder.startswith(f"{self.root}/")]
        for each in left:
            proc.send(each.process, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert (done.code, left) == (0, []), done.err


@contextmanager
def brought_up(name: str, text: str) -> Iterator[Cluster]:
    """A cluster that is up, for tests that share it; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"dyno-{name}-", ignore_cleanup_errors=True) as folder:
        made = Cluster(Path(folder), name, text)
        try:
            done = made.run("up", str(made.file))
            assert done.code == 0, done.err
            yield made
        finally:
            made.end()

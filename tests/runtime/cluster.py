"""A cluster of real processes on this machine, for tests: `python -m dyno_runtime` as subprocesses.

In: the URLs of an etcd and a NATS, a folder. Out: `Cluster`, which starts units, asks them over HTTP, reads
their health files and logs, and ends every one of them by pid.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from dyno_runtime import settings
from dyno_runtime.settings import Disagg, Endpoint, Engine, Model, ProcessSettings, Routing, Services
from tests.servers import free_port, wait_for


@dataclass
class Answer:
    """What HTTP said."""

    status: int
    headers: dict[str, str]
    json: Any

    @property
    def worker(self) -> str:
        return self.headers["x-dyno-worker"]

    @property
    def prefill(self) -> str:
        return self.headers["x-dyno-prefill"]


@dataclass
class Unit:
    """One process."""

    settings: ProcessSettings
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def file(self) -> Path:
        return self.folder / "settings.json"

    @property
    def url(self) -> str:
        assert self.settings.http is not None
        return f"http://127.0.0.1:{self.settings.http.port}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            argv = [sys.executable, "-m", "dyno_runtime", str(self.file)]
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def send(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def end(self, number: int = signal.SIGTERM, deadline_s: float = 15.0) -> int:
        """Send a signal and wait; the exit status."""
        self.send(number)
        return self.wait(deadline_s)

    def wait(self, deadline_s: float = 15.0) -> int:
        assert self.process is not None
        return self.process.wait(deadline_s)

    def health(self) -> dict[str, Any]:
        """The health file, empty where there is none yet."""
        with contextlib.suppress(OSError):
            return dict(json.loads(Path(self.settings.health_path).read_bytes()))
        return {}

    def sees(self, **counts: int) -> bool:
        seen = self.health().get("sees", {})
        return all(seen.get(role, 0) == count for role, count in counts.items())

    def role(self) -> dict[str, Any]:
        """The health of its first role."""
        return dict(self.health().get("roles", {}).get(self.settings.roles[0], {}))

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@dataclass
class Cluster:
    """See the module."""

    etcd_url: str
    nats_url: str
    folder: Path
    name: str = "hello"
    disagg: Disagg = field(default_factory=Disagg)
    routing: Routing = field(default_factory=Routing)
    engine: Engine = field(default_factory=lambda: Engine("hello"))
    model: Model = field(default_factory=lambda: Model("hello"))
    units: list[Unit] = field(default_factory=list)

    def add(self, node: str, *roles: settings.RoleName, start: bool = True, **more: Any) -> Unit:
        """Start a process, or only prepare it. `args` go to its engine; other keywords replace its settings."""
        unit_name = f"{roles[0]}-{sum(one.settings.unit.startswith(roles[0]) for one in self.units)}"
        folder = self.folder / f"{node}-{unit_name}"
        folder.mkdir()
        own_args = {"hostname": node.upper()} if self.engine.kind == "hello" else {}
        args = {**self.engine.args, **own_args, **more.pop("args", {})}
        engine = replace(self.engine, args=args)
        one = ProcessSettings(
            cluster=self.name,
            node=node,
            unit=unit_name,
            roles=roles,
            services=Services((self.etcd_url,), self.nats_url),
            stream=Endpoint("127.0.0.1", free_port()),
            model=self.model,
            engine=engine,
            health_path=str(folder / "health.json"),
            http=more.pop("http", Endpoint("127.0.0.1", free_port()) if "frontend" in roles else None),
            routing=self.routing,
            disagg=self.disagg,
            **more,
        )
        unit = Unit(one, folder)
        unit.file.write_bytes(settings.encode(one))
        if start:
            unit.start()
        self.units.append(unit)
        return unit

    def ready(self, deadline_s: float = 20.0) -> None:
        """Wait until everybody sees everybody, every engine is loaded, and the prefill queue, if any, is reached."""
        counts: dict[str, int] = {}
        for unit in self.units:
            for role in unit.settings.roles:
                counts[role] = counts.get(role, 0) + 1

        def all_see() -> bool:
            for unit in self.units:
                assert unit.process is not None
                assert unit.process.poll() is None, unit.log
                health = unit.health()
                roles = health.get("roles", {})
                if not unit.sees(**counts) or any(one["engine"] == "loading" for one in roles.values()):
                    return False
                if "prefill" in counts and health["bus"]["nats"] != "up":
                    return False  # a decode worker would prefill by itself
                if unit.settings.http is not None:
                    ready = request(f"{unit.url}/health", None, {}).json["ready"]
                    if ready != counts:
                        return False
            return True

        wait_for(all_see, f"everybody sees {counts}", deadline_s)
        if {"decode", "prefill"} <= counts.keys():
            # That an engine is loaded is not in the health files: decode workers hear of it when frontends do, or a
            # moment later, and would prefill by themselves until then.
            time.sleep(0.2)

    def close(self) -> None:
        """End whatever runs."""
        for unit in self.units:
            if unit.process is not None and unit.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    unit.send(signal.SIGCONT)
                unit.process.kill()
                unit.process.wait()


def ask(unit: Unit, prompt: str, *, timeout_s: float = 15.0, **headers: str) -> Answer:
    """`POST /generate`; header names with underscores for dashes."""
    body = json.dumps({"prompt": prompt, "request_id": "id_number"}).encode()
    return request(
        f"{unit.url}/generate", body, {k.replace("_", "-"): v for k, v in headers.items()}, timeout_s
    )


def request(url: str, body: bytes | None, headers: dict[str, str], timeout_s: float = 15.0) -> Answer:
    """One HTTP request; an error status is an answer like any other."""
    wanted = urllib.request.Request(url, body, {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(wanted, timeout=timeout_s) as answer:
            return Answer(answer.status, dict(answer.headers), json.loads(answer.read()))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, dict(error.headers), json.loads(error.read()))

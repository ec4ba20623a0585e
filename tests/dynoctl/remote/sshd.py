"""Real sshds on loopback, as the current user, each with host keys and settings of its own.

In: a folder and settings. Out: a running server with its port, its files, and a person's `ssh:` settings that get
in. Each is stopped by the test that started it, with the sessions that it serves, also after a failure.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

SSHD = "/usr/sbin/sshd"
STARTED_S = 20.0


def require_sshd() -> None:
    """Skip with the reason where there is no sshd; fail where the lab is required."""
    missing = [tool for tool in (SSHD, "ssh-keygen") if shutil.which(tool) is None]
    if not missing:
        return
    reason = f"{missing[0]} is missing (apt-get install openssh-server openssh-client)"
    if os.environ.get("DYNO_REQUIRE_LAB") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def keygen(path: Path, *, kind: str = "ed25519", passphrase: str = "", comment: str = "test") -> Path:
    """Make a private key at `path`, and its public half beside it."""
    argv = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", comment, "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    return path


def fingerprint(public: Path) -> str:
    """As `ssh-keygen -l` prints it."""
    argv = ["ssh-keygen", "-l", "-f", str(public)]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=10).stdout.split()[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Sshd:
    """One server. `home` holds its files; `client_key` gets in."""

    def __init__(
        self, home: Path, *, settings: dict[str, str] | None = None, port: int | None = None
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.port = port or free_port()
        self.user = getpass.getuser()
        self.client_key = home / "client_key"
        if not self.client_key.exists():
            keygen(self.client_key)
        self.host_key = home / "host_key"
        if not self.host_key.exists():
            keygen(self.host_key)
        self.authorized_keys = home / "authorized_keys"
        self.authorized_keys.write_text(self.client_key.with_suffix(".pub").read_text())
        self.log = home / "sshd.log"
        self.person_home = (
            home / "home"
        )  # what sessions have as $HOME: not the real one of whoever runs the tests
        self.person_home.mkdir(exist_ok=True)
        self._settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def public(self) -> Path:
        return self.host_key.with_suffix(".pub")

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it listens."""
        Path("/run/sshd").mkdir(exist_ok=True) if os.geteuid() == 0 else None
        config = {
            "Port": str(self.port),
            "ListenAddress": "127.0.0.1",
            "HostKey": str(self.host_key),
            "AuthorizedKeysFile": str(self.authorized_keys),
            "PidFile": "none",
            "UsePAM": "no",
            "UseDNS": "no",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "MaxStartups": "100",
            "SetEnv": f"HOME={self.person_home}",
            **self._settings,
        }
        path = self.home / "sshd_config"
        path.write_text("".join(f"{key} {value}\n" for key, value in config.items()))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._await()

    def _await(self) -> None:
        assert self._process
        deadline = time.monotonic() + STARTED_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.recv(4)
                return
            time.sleep(0.01)
        raise AssertionError(f"sshd did not start: {self.log.read_text()}")

    def processes(self) -> list[int]:
        """The server and everything below it, the sessions included."""
        found, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            with suppress(OSError):
                waiting += [
                    int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                ]
        return found

    def signal(self, number: signal.Signals) -> None:
        """To the server and its sessions: STOP is a frozen machine whose kernel still answers."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        if self._process is None:
            return
        self.signal(signal.SIGKILL)
        self._process.wait(10)
        self._process = None

"""A lab from the outside: start it, find its hosts, stop it.

In: how many hosts, which of them run systemd. Out: a folder /run/dynolab/NAME with key, known_hosts and
ssh_config, and a controller process that ends with the process that started it (or, detached, on `stop`).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from tests.lab.cgroup import Cgroup
from tests.lab.errors import BadRequest, LabError
from tests.lab.host import Host
from tests.lab.needs import SEARCH_PATH, cgroup_root, missing

LABS = Path("/run/dynolab")
OUTER_CGROUP = "DYNO_LAB_CGROUP"
CHECKOUT = Path(__file__).resolve().parents[2]
MOST_HOSTS = 200
READY_WITHIN_S = 120.0
ANSWER_WITHIN_S = 120.0
GONE_WITHIN_S = 20.0
POLL_S = 0.005
DISK_MAX_BYTES = 4 << 30


def plan(n: int, systemd: Collection[str]) -> dict[str, str]:
    """The hosts' names and kinds of init. Raises BadRequest, and LabError where no lab can be made."""
    names = [f"h{index}" for index in range(1, n + 1)]
    if not 1 <= n <= MOST_HOSTS:
        raise BadRequest(f"a lab has from 1 to {MOST_HOSTS} hosts, not {n}")
    if unknown := sorted(set(systemd) - set(names)):
        raise BadRequest(f"there is no host {unknown[0]!r}; the hosts are {names[0]} to {names[-1]}")
    if reason := missing(bool(systemd)):
        raise LabError(reason)
    return {name: "systemd" if name in systemd else "bare" for name in names}


class Lab:
    """A cluster of hosts h1..hN. `with Lab() as lab: lab.start(3, systemd={"h3"})` leaves nothing behind."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or f"lab-{secrets.token_hex(4)}"
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", self.name):
            raise BadRequest(f"{self.name!r} cannot name a lab; use lower-case letters, digits and dashes")
        self.folder = LABS / self.name
        self.hosts: tuple[Host, ...] = ()
        self.here = ""
        self._controller: subprocess.Popen[bytes] | None = None

    # Where things are

    @property
    def key(self) -> Path:
        """The private key that lets the lab's user in on every host."""
        return self.folder / "key"

    @property
    def known_hosts(self) -> Path:
        """The hosts' keys, by address and by name."""
        return self.folder / "known_hosts"

    @property
    def ssh_config(self) -> Path:
        """For `ssh -F`: the hosts by name."""
        return self.folder / "ssh_config"

    @property
    def cgroup(self) -> Path:
        """The cgroup that holds every process of the lab."""
        # Inside `scripts/lab run` names may be those of labs elsewhere; the cgroups lie below the outer one.
        root = os.environ.get(OUTER_CGROUP) or cgroup_root()
        assert root is not None
        return Path(root, f"dynolab.{self.name}")

    def __getitem__(self, name: str) -> Host:
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise BadRequest(f"there is no host {name!r}; the hosts are {known}")

    # Its life

    def start(
        self,
        n: int,
        systemd: Collection[str] = (),
        *,
        detached: bool = False,
        shown: Mapping[str, Path] = MappingProxyType({}),
    ) -> tuple[Host, ...]:
        """Make h1..hn, those named in `systemd` with systemd as init, and wait until all accept SSH.

        `shown` are folders of this machine that every host sees, to read, at the path that is the key. A detached lab
        outlives this process, until `stop`. Raises LabError.
        """
        hosts = plan(n, systemd)
        self._claim()
        config = {
            "folder": str(self.folder),
            "cgroup": str(self.cgroup),
            "hosts": hosts,
            "shown": {path: str(folder) for path, folder in shown.items()},
            "disk_max_bytes": DISK_MAX_BYTES,
            "owner_pid": None if detached else os.getpid(),
            "person": int(os.environ["SUDO_UID"]) if "SUDO_UID" in os.environ else None,
        }
        self._launch(config, detached)
        self._load()
        return self.hosts

    def stop(self) -> None:
        """End every process, link, mount and cgroup of the lab, and wait until it is gone."""
        if self._controller is None and not self.folder.exists():
            return
        try:
            self._ask("stop")
        except LabError:
            pass  # the controller ended by itself; the janitor is at work
        if self._controller is not None:
            try:
                self._controller.wait(GONE_WITHIN_S)
            except subprocess.TimeoutExpired:
                Cgroup(self.cgroup).kill()
                self._controller.wait(GONE_WITHIN_S)
            self._controller = None
        deadline = time.monotonic() + GONE_WITHIN_S
        while self.folder.exists():
            if time.monotonic() > deadline:
                raise LabError(f"the lab {self.name!r} did not end within {GONE_WITHIN_S:.0f} s")
            time.sleep(POLL_S)
        self.hosts = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()

    @classmethod
    def attach(cls, name: str) -> Lab:
        """The running lab of that name. Raises LabError when there is none."""
        lab = cls(name)
        if os.geteuid() != 0:
            raise LabError("the lab needs root; run it with sudo")
        if not lab.running():
            raise LabError(f"no lab named {name!r} is running; start one with: scripts/lab start 3")
        lab._load()
        return lab

    def running(self) -> bool:
        """Whether its controller answers."""
        try:
            self._ask("hosts")
        except LabError:
            return False
        return True

    def _claim(self) -> None:
        """Make the folder; whoever makes it owns the name."""
        LABS.mkdir(exist_ok=True, mode=0o755)
        try:
            self.folder.mkdir(mode=0o755)
            return
        except FileExistsError:
            if self.running():
                stop = "scripts/lab stop" if self.name == "lab" else f"scripts/lab stop --name {self.name}"
                raise LabError(f"a lab named {self.name!r} is running already; end it with: {stop}") from None
        # Controller and janitor were both killed: clean up after them.
        Cgroup(self.cgroup).kill()
        shutil.rmtree(self.folder)
        self.folder.mkdir(mode=0o755)

    def _launch(self, config: Mapping[str, Any], detached: bool) -> None:
        command = [sys.executable, "-B", "-m", "tests.lab.control", json.dumps(config)]
        with (self.folder / "controller.log").open("wb") as log:
            controller = subprocess.Popen(
                ["setsid", "--fork", *command] if detached else command,
                cwd=CHECKOUT,
                env={"PATH": SEARCH_PATH, "LANG": "C.UTF-8", "PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=not detached,
            )
        if detached:
            controller.wait()  # `setsid` ends at once, and what it started is nobody's child
        else:
            self._controller = controller
        assert controller.stdout is not None
        with controller.stdout as answers:
            ready = select.select([answers], [], [], READY_WITHIN_S)[0]
            line = answers.readline() if ready else b""
        if line and json.loads(line)["ok"]:
            return
        why = json.loads(line)["error"] if line else self._last_words()
        if not ready:
            Cgroup(self.cgroup).kill()
        self.stop()
        raise LabError(f"the lab did not start: {why}")

    def _last_words(self) -> str:
        try:
            lines = (self.folder / "controller.log").read_text(errors="replace").split("\n")
        except OSError:  # the janitor was faster
            lines = []
        said = [line for line in lines if line.strip()]
        return said[-1] if said else "its controller ended without a word"

    def _load(self) -> None:
        answer = self._ask("hosts")
        self.here = answer["here"]
        self.hosts = tuple(
            Host(state["name"], state["address"], state["init"], self.key, self.known_hosts, self._ask)
            for state in answer["hosts"]
        )

    def _ask(self, do: str, host: str | None = None, **more: Any) -> Mapping[str, Any]:
        """One request to the controller. Raises BadRequest, LabError."""
        request = {"do": do, "host": host, **more}
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(ANSWER_WITHIN_S)
                client.connect(str(self.folder / "control"))
                with client.makefile("rwb") as stream:
                    stream.write(json.dumps(request).encode() + b"\n")
                    stream.flush()
                    line = stream.readline()
        except OSError as error:
            raise LabError(f"the lab {self.name!r} does not answer: {error.strerror or error}") from error
        if not line:
            raise LabError(f"the lab {self.name!r} ended while it was asked to {do}")
        answer: dict[str, Any] = json.loads(line)
        if answer["ok"]:
            return answer
        raise (BadRequest if answer.get("bad_request") else LabError)(answer["error"])

"""A host as a test or a person sees it: how to reach it, what runs on it, and how to break it.

In: the lab it belongs to. Out: methods that return once the host is in the state they name. They raise
LabError when the lab cannot do it and BadRequest when it makes no sense.
"""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.lab.cgroup import Cgroup
from tests.lab.disk import USER
from tests.lab.errors import LabError
from tests.lab.process import Process, processes

Ask = Callable[..., Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Host:
    """One host. `init` is bare or systemd; `key` is the private key that lets `user` in."""

    name: str
    address: str
    init: str
    key: Path
    known_hosts: Path
    ask: Ask = dataclasses.field(repr=False, compare=False)
    user: str = USER
    port: int = 22

    # Reaching it

    def ssh_argv(self, *command: str) -> list[str]:
        """An OpenSSH command line that runs `command` there; unknown host keys are refused."""
        options = {
            "IdentityFile": str(self.key),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.known_hosts),
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "5",
        }
        flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "none", *flags, "-p", str(self.port), f"{self.user}@{self.address}", *command]

    def exec_argv(self, argv: Sequence[str], *, user: str = "root") -> list[str]:
        """A command line for this machine that runs `argv` inside the host, without SSH."""
        pid, cgroup = self._running()
        inside = cgroup / ("dyn/sshd" if self.init == "bare" else "exec")
        enter = 'mkdir -p "$1"; echo 0 >"$1/cgroup.procs"; shift; exec "$@"'
        home = "/root" if user == "root" else f"/home/{user}"
        credentials = [
            "--reuid",
            user,
            "--regid",
            user,
            "--init-groups",
            "--reset-env",
            "--pdeathsig",
            "KILL",
        ]
        return [
            *("sh", "-c", enter, "sh", str(inside)),
            *("nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-C", "--"),
            *("setpriv", *credentials, "env", f"--chdir={home}", *argv),
        ]

    def exec(
        self,
        argv: Sequence[str],
        *,
        user: str = "root",
        input: str | None = None,
        timeout_s: float = 30.0,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` inside the host, without SSH, and wait for its end; output is captured as text."""
        done = subprocess.run(
            self.exec_argv(argv, user=user),
            input="" if input is None else input,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if check and done.returncode != 0:
            what = f"{shlex.join(argv)} ended with {done.returncode}"
            raise LabError(f"{self.name}: {what}: {(done.stderr or done.stdout).strip()}")
        return done

    def processes(self) -> list[Process]:
        """What runs there besides init, sshd and systemd's own; empty when it is off."""
        state = self._state()
        if state["pid"] is None:
            return []
        return processes(Cgroup(Path(state["cgroup"])), state["pid"])

    @property
    def powered(self) -> bool:
        """Whether it is on."""
        return self._state()["pid"] is not None

    # Power and disk

    def poweroff(self) -> None:
        """Pull the plug: peers get no goodbye. The disk stays; /tmp, /run and every process are gone."""
        self.ask("poweroff", self.name)

    def poweron(self) -> None:
        """Boot it with the disk it has, and wait until sshd listens."""
        self.ask("poweron", self.name)

    def power_cycle(self) -> None:
        """Off and on again."""
        self.poweroff()
        self.poweron()

    def wipe(self, *, new_host_key: bool = False) -> None:
        """Power it off, put a fresh disk in, and boot it if it was on.

        It keeps its host key, or gets a new one as a machine installed anew does; known_hosts follows.
        """
        if new_host_key:
            self.ask("change_host_key", self.name)
        self.ask("wipe", self.name)

    def disk_full(self) -> None:
        """Leave no free block on its disk: writes fail with ENOSPC."""
        self.ask("disk_full", self.name)

    def disk_free(self) -> None:
        """Give its disk the whole size back."""
        self.ask("disk_free", self.name)

    def freeze(self) -> None:
        """Stop every process of it. Its kernel still takes TCP connections, nothing answers on them."""
        self.ask("freeze", self.name)

    def thaw(self) -> None:
        """Let its processes go on."""
        self.ask("thaw", self.name)

    # Network; a power cycle ends these faults too

    def cut(self) -> None:
        """Pull its cable: packets vanish, open connections stay open."""
        self.ask("cut", self.name)

    def heal(self) -> None:
        """Undo everything that was done to its network."""
        self.ask("heal", self.name)

    def loss(self, probability: float) -> None:
        """Lose this share (above 0, up to 1) of the packets that come to it."""
        self.ask("loss", self.name, value=probability)

    def refuse(self, port: int) -> None:
        """Answer connections to this TCP port with a reset."""
        self.ask("refuse", self.name, value=port)

    def partition(self, peer: Host) -> None:
        """Let no IP packet pass between it and `peer`; both still reach all others."""
        self.ask("partition", self.name, value=peer.name)

    def delay(self, delay_s: float) -> None:
        """Make every frame to and from it late by `delay_s`; a round trip takes twice that."""
        self.ask("delay", self.name, value=delay_s)

    def rate(self, bits_per_s: int) -> None:
        """Let no more than this through its cable, in each direction."""
        self.ask("rate", self.name, value=bits_per_s)

    # What the controller knows of it

    def _state(self) -> Mapping[str, Any]:
        for state in self.ask("hosts")["hosts"]:
            if state["name"] == self.name:
                return dict(state)
        raise LabError(f"the lab knows no host {self.name!r} any more")

    def _running(self) -> tuple[int, Path]:
        state = self._state()
        if state["pid"] is None:
            raise LabError(f"{self.name} is powered off; boot it first")
        cgroup = Path(state["cgroup"])
        if Cgroup(cgroup).frozen():
            raise LabError(f"{self.name} is frozen; thaw it first")
        return state["pid"], cgroup

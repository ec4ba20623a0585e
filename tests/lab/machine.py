"""A host as the controller sees it: power, cable, disk.

In: what to boot. Out: an init process in namespaces of its own; `pid` is how this machine sees it.
All methods run in the controller's main thread: a host is tied to the life of the thread that booted it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.lab.cgroup import Cgroup
from tests.lab.disk import Disk
from tests.lab.errors import LabError
from tests.lab.switch import PREFIX_BITS, Switch

HOSTINIT = Path(__file__).with_name("hostinit.sh")
POLL_S = 0.003
BOOT_WITHIN_S = {"bare": 20.0, "systemd": 60.0}
NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--ipc", "--cgroup")
SSH_PORT = 22
LISTEN = "0A"


class Machine:
    """One host. `index` counts from 1; `init` is bare or systemd; `log` gets what init prints."""

    def __init__(self, name: str, index: int, disk: Disk, switch: Switch, cgroup: Cgroup, log: Path) -> None:
        self.name = name
        self.index = index
        self.disk = disk
        self.cgroup = cgroup
        self.log = log
        self.init = disk.contents.init
        self._switch = switch
        self._holder: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None

    @property
    def address(self) -> str:
        """Its IPv4 address."""
        return self._switch.address(self.index)

    @property
    def pid(self) -> int | None:
        """Process id of its init, or None while it is off (also when it powered itself off)."""
        if self._holder is not None and self._holder.poll() is not None:
            return None
        return self._pid

    def boot(self) -> None:
        """Start its init; the cable must be plugged in and `wait` be called after it."""
        self.cgroup.make()
        address = f"{self.address}/{PREFIX_BITS}"
        # The shell moves itself into the host's cgroup, so that all that follows is inside from the start.
        enter = 'echo 0 >"$1/cgroup.procs"; shift; exec "$@"'
        command = ["sh", "-c", enter, "sh", str(self.cgroup.folder)]
        command += ["setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, "--fork", "--kill-child=KILL"]
        command += ["sh", str(HOSTINIT), self.name, str(self.disk.folder), address, self.init]
        command += [word for pair in self.disk.contents.shown for word in pair]
        with self.log.open("ab") as log:
            self._holder = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._pid = None

    def find_init(self) -> int:
        """Wait until its namespaces exist, and give the process id of its init."""
        assert self._holder is not None
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        deadline = time.monotonic() + BOOT_WITHIN_S["bare"]
        while self._pid is None:
            self._check_alive(deadline)
            try:
                found = children.read_text().split()
            except OSError:  # ended just now; the next check says so
                continue
            # Before `unshare` there is only the shell, which has no children.
            self._pid = int(found[0]) if found else None
            time.sleep(POLL_S)
        return self._pid

    def wait(self) -> None:
        """Wait until sshd listens. Asking over the wire would cost a second of ARP when asked too early."""
        deadline = time.monotonic() + BOOT_WITHIN_S[self.init]
        while not self.listens():
            self._check_alive(deadline)
            time.sleep(POLL_S)

    def listens(self, port: int = SSH_PORT) -> bool:
        """Whether a TCP port of the host is in state LISTEN."""
        for table in ("tcp", "tcp6"):
            try:
                lines = Path(f"/proc/{self._pid}/net/{table}").read_text().splitlines()[1:]
            except OSError:
                return False
            for line in lines:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    return True
        return False

    def poweron(self) -> None:
        """Boot it and wait until sshd listens. It must be off."""
        self.boot()
        self._switch.plug([(self.name, self.index, self.find_init())])
        self.wait()

    def poweroff(self) -> None:
        """Cable first, then every process at once: peers see silence, as with a real loss of power."""
        if self._holder is None:
            return
        self._switch.unplug(self.name)
        self.cgroup.kill()
        self._holder.wait()
        self._holder = None
        self._pid = None

    def end(self) -> subprocess.Popen[bytes] | None:
        """Begin to end every process, because the lab ends; what is given back is to be waited for."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)  # and the kernel ends the rest of its PID namespace
        return self._holder

    def _check_alive(self, deadline: float) -> None:
        assert self._holder is not None
        if self._holder.poll() is None and time.monotonic() < deadline:
            return
        what = "did not start" if self._holder.poll() is None else "ended while it started"
        tail = " | ".join(self.log.read_text(errors="replace").splitlines()[-3:])
        raise LabError(f"{self.name} {what}: {tail or 'it printed nothing'}")

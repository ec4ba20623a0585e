"""The controller: the process that holds a lab's namespaces and hosts, and does what it is asked.

In: one JSON document as the only argument; then requests, one JSON line for each connection to the
socket `control` in the lab's folder. Out: one JSON line on standard output once all hosts are up (or why
not); one JSON line for each request. It ends with its owner, and everything of the lab ends with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, NoReturn

from tests.lab import kernel
from tests.lab.access import make_key, write_client_files
from tests.lab.cgroup import Cgroup
from tests.lab.disk import Contents, Disk
from tests.lab.errors import LabError
from tests.lab.faults import Faults
from tests.lab.machine import Machine
from tests.lab.requests import Requests
from tests.lab.switch import Switch

JANITOR = Path(__file__).with_name("janitor.sh")
CHECKOUT = Path(__file__).resolve().parents[2]
REQUEST_WITHIN_S = 5.0
HOST_GONE_WITHIN_S = 10.0
MAX_REQUEST_BYTES = 65536


def start_janitor(cgroup: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start the process that cleans up once the pipe to it closes, however its starter ends."""
    return subprocess.Popen(
        ["sh", str(JANITOR), str(cgroup), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


class Controller:
    """Builds the lab described by `config` and serves requests until its owner ends or asks it to stop."""

    def __init__(self, config: dict[str, Any], janitor: subprocess.Popen[bytes]) -> None:
        self._janitor = janitor  # held: dropping it would close its pipe, which is its signal
        self.folder = Path(config["folder"])
        self.cgroup = Cgroup(Path(config["cgroup"]))
        self.hosts: dict[str, str] = config["hosts"]  # name -> bare | systemd
        self.disk_max_bytes: int = config["disk_max_bytes"]
        self.owner: int | None = config["owner_pid"]
        self.person: int | None = config["person"]  # a user id
        self.shown: tuple[tuple[str, str], ...] = tuple(config["shown"].items())
        self.machines: dict[str, Machine] = {}

    def build(self) -> None:
        """Leave this machine's network and mounts, then boot every host and wait for all of them."""
        self.cgroup.make()
        inner = Cgroup(self.cgroup.folder / "control")
        inner.make()
        inner.join()
        outside = os.open("/proc/self/ns/net", os.O_RDONLY)
        kernel.unshare(kernel.CLONE_NEWNET | kernel.CLONE_NEWNS)
        kernel.mount("none", "/", "none", kernel.MS_REC | kernel.MS_PRIVATE)
        self.switch = Switch(outside)
        self.switch.build()
        self._prepare()
        for machine in self.machines.values():
            machine.boot()
        self.switch.plug((m.name, m.index, m.find_init()) for m in self.machines.values())
        for machine in self.machines.values():
            machine.wait()
        self._write_client_files()

    def _write_client_files(self) -> None:
        write_client_files(self.folder, self.machines.values(), self.person)

    def _change_host_key(self, machine: Machine) -> None:
        key = self.folder / "host_keys" / machine.name
        make_key(key, machine.name)
        machine.disk.contents = dataclasses.replace(machine.disk.contents, host_key=key.read_text())
        self._write_client_files()

    def _prepare(self) -> None:
        authorized = make_key(self.folder / "key", "lab")
        names = list(self.hosts)
        peers = {name: self.switch.address(index) for index, name in enumerate(names, 1)}
        peers["lab"] = self.switch.here
        (self.folder / "host_keys").mkdir(mode=0o700)
        (self.folder / "log").mkdir()
        for index, name in enumerate(names, 1):
            key = self.folder / "host_keys" / name
            make_key(key, name)
            masked = (str(CHECKOUT),)
            contents = Contents(
                name, self.hosts[name], peers, key.read_text(), authorized + "\n", masked, self.shown
            )
            disk = Disk(self.folder / "disks" / name, contents, self.disk_max_bytes)
            disk.format()
            log = self.folder / "log" / name
            cgroup = Cgroup(self.cgroup.folder / name)
            self.machines[name] = Machine(name, index, disk, self.switch, cgroup, log)

    def serve(self) -> None:
        """Answer requests until `stop` is asked for or the owner has ended."""
        faults = Faults(self.machines)
        requests = Requests(self.machines, faults, self.switch, self._change_host_key)
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(str(self.folder / "control"))
            server.listen(16)
            selector.register(server, selectors.EVENT_READ)
            if self.owner is not None:
                owner = os.pidfd_open(self.owner)
                stack.callback(os.close, owner)
                selector.register(owner, selectors.EVENT_READ)
            self._say({"ok": True, "here": self.switch.here})
            while not requests.stopped:
                if any(key.fileobj is not server for key, _ in selector.select()):
                    break
                connection, _ = server.accept()
                with connection:
                    _answer(connection, requests)
        faults.close()
        self._end_machines()
        self.switch.close()

    def _end_machines(self) -> None:
        """End all at once and wait for them here: a machine without a real init would keep them as zombies."""
        for holder in [machine.end() for machine in self.machines.values()]:
            if holder is not None:
                holder.wait(HOST_GONE_WITHIN_S)

    def _say(self, line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)
        # The starter has its answer; from here on nobody reads.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)


def _answer(connection: socket.socket, requests: Requests) -> None:
    connection.settimeout(REQUEST_WITHIN_S)
    try:
        with connection.makefile("rwb") as stream:
            line = stream.readline(MAX_REQUEST_BYTES)
            if line:
                stream.write(json.dumps(requests.do(json.loads(line))).encode() + b"\n")
    except OSError:  # the client left or stalled; the next one is served
        pass


def _end(signum: int, frame: types.FrameType | None) -> NoReturn:
    raise SystemExit(0)


def main() -> int:
    """Run the controller; the argument is its configuration as JSON."""
    config = json.loads(sys.argv[1])
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Before anything is made, so that whatever happens is cleaned up; its pipe closes when we end.
    janitor = start_janitor(Path(config["cgroup"]), Path(config["folder"]))
    controller = Controller(config, janitor)
    try:
        controller.build()
        controller.serve()
    except (LabError, OSError, subprocess.SubprocessError) as error:
        print(json.dumps({"ok": False, "error": str(error)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

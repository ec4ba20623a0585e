"""A command beside a lab of its own, all in one outer namespace (`scripts/lab run`).

In: how many hosts, which run systemd, the command. Out: the command's exit status. The first process of the
outer PID namespace starts lab and command, so that whatever ends it, also kill -9, ends everything.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import types
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tests.lab import kernel
from tests.lab.cgroup import Cgroup
from tests.lab.control import start_janitor
from tests.lab.errors import LabError
from tests.lab.lab import LABS, OUTER_CGROUP, Lab, plan
from tests.lab.switch import ip

VERB = "_inside"
PROGRAM = Path(__file__).resolve().parents[2] / "scripts/lab"


def enter(n: int, systemd: Collection[str], command: list[str]) -> int:
    """Run `command` beside n hosts, wait for its end, give its exit status. Raises LabError."""
    plan(n, systemd)
    lab = Lab(f"run-{secrets.token_hex(4)}")
    outer_cgroup = Cgroup(lab.cgroup)
    outer_cgroup.make()
    signal.signal(signal.SIGINT, _leave_to_command)
    LABS.mkdir(exist_ok=True, mode=0o755)
    # Outside of what may be killed at once; it takes away the empty cgroups that are left then.
    janitor = start_janitor(outer_cgroup.folder, lab.folder)
    outer = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork"]
    outer += ["--kill-child=KILL", "--mount-proc"]
    what = json.dumps({"n": n, "systemd": sorted(systemd)})
    status = subprocess.run(
        [*outer, sys.executable, "-B", str(PROGRAM), VERB, lab.name, what, "--", *command],
        env={**os.environ, OUTER_CGROUP: str(outer_cgroup.folder)},
    ).returncode
    janitor.communicate()
    return status if status >= 0 else 128 - status


def run(name: str, what: Mapping[str, Any], command: list[str]) -> int:
    """The first process of the outer namespaces: start the lab and the command, take in orphans."""
    signal.signal(signal.SIGINT, _leave_to_command)
    # Labs of other namespaces have their folders elsewhere; what is here goes with us.
    kernel.mount("labs", str(LABS), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    ip("link", "set", "lo", "up")
    with Lab(name) as lab:
        lab.start(what["n"], what["systemd"])
        try:
            child = os.posix_spawnp(command[0], command, {**os.environ, "DYNO_LAB": name})
        except OSError as error:
            raise LabError(f"cannot run {command[0]}: {error.strerror}") from error
        while True:
            pid, status = os.wait()
            if pid == child:
                break
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _leave_to_command(signum: int, frame: types.FrameType | None) -> None:
    """Ctrl-C reaches the command too, and its end is ours. Unlike an ignored signal, this is not inherited."""

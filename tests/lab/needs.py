"""What this machine must have before a lab can be made.

In: whether hosts with systemd are wanted. Out: one sentence that says what is missing and how to
get it, or None.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

TOOLS = {
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "ip": "iproute2",
    "tc": "iproute2",
    "iptables": "iptables",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "setsid": "util-linux",
}
SYSTEMD_FILES = {
    "/lib/systemd/systemd": "systemd",
    "/usr/bin/dbus-daemon": "dbus",
    "/usr/lib/systemd/user/dbus.socket": "dbus-user-session",
    "/usr/share/pam-configs/systemd": "libpam-systemd",
}
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing(systemd: bool = False) -> str | None:
    """Why no lab can be made here, as one sentence; None when it can."""
    if os.geteuid() != 0:
        return "the lab needs root; run it with sudo"
    absent = {tool: package for tool, package in TOOLS.items() if not shutil.which(tool, path=SEARCH_PATH)}
    if systemd:
        absent |= {path: package for path, package in SYSTEMD_FILES.items() if not Path(path).exists()}
    if absent:
        packages = " ".join(sorted(set(absent.values())))
        verb = "is" if len(absent) == 1 else "are"
        names = ", ".join(sorted(absent))
        return f"{names} {verb} not installed; get it with: apt-get install {packages}"
    for folder in ("/usr", "/etc"):
        if os.path.ismount(folder):
            return f"{folder} is a file system of its own; the lab needs it on the root file system"
    if cgroup_root() is None:
        return "no cgroup version 2 is mounted; mount one with: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    return None


def cgroup_root() -> Path | None:
    """Where cgroup version 2 is mounted on this machine, or None."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None

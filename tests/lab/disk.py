"""The disk of a host: a file system in memory with what makes the host different from this machine.

In: name, addresses, keys and kind of init. Out: a mounted folder with `upper`, `work` and `root` for an
overlay above this machine's own root. It lives as long as the controller, across power cycles.
"""

from __future__ import annotations

import dataclasses
import os
import stat
import uuid
from collections.abc import Mapping
from pathlib import Path

from tests.lab import kernel

USER = "dyn"
USER_ID = 2001
MASKED = ("/home", "/root", "/srv", "/etc/systemd/system", "/var/lib/systemd", "/var/log", "/var/spool/cron")
# Parts of the machine's own systemd that would touch the shared kernel or wait for what is not there.
MASKED_UNITS = (
    "console-getty.service",
    "getty.target",
    "ssh.service",
    "ssh.socket",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-modules-load.service",
    "systemd-sysctl.service",
    "proc-sys-fs-binfmt_misc.automount",
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "sys-fs-fuse-connections.mount",
)

SSHD_CONFIG = """\
Port 22
HostKey /etc/ssh/lab_host_key
AuthorizedKeysFile .ssh/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
UsePAM {pam}
UseDNS no
PrintMotd no
PidFile none
MaxStartups 200
Subsystem sftp internal-sftp
"""

SSHD_UNIT = """\
[Unit]
Description=SSH server of a lab host
After=systemd-logind.service systemd-user-sessions.service dbus.service

[Service]
ExecStart=/usr/sbin/sshd -D -e -f /etc/ssh/sshd_lab_config
RuntimeDirectory=sshd
KillMode=process
"""


@dataclasses.dataclass(frozen=True)
class Contents:
    """What is written on a fresh disk. `peers` maps every host's name to its address. `shown` are (path on the host,
    folder of this machine) that are mounted there, to read."""

    name: str
    init: str
    peers: Mapping[str, str]
    host_key: str
    authorized_key: str
    masked: tuple[str, ...] = ()
    shown: tuple[tuple[str, str], ...] = ()


class Disk:
    """One disk, mounted at `folder`. `size_bytes` bounds what the host can write."""

    def __init__(self, folder: Path, contents: Contents, size_bytes: int) -> None:
        self.folder = folder
        self.contents = contents
        self.size_bytes = size_bytes
        self._mounted = False

    def format(self) -> None:
        """Replace the disk by a fresh one. The host must be off."""
        if self._mounted:
            kernel.unmount(str(self.folder))
            self._mounted = False
        self.folder.mkdir(parents=True, exist_ok=True)
        kernel.mount(
            "lab-disk", str(self.folder), "tmpfs", kernel.MS_NODEV, f"size={self.size_bytes},mode=755"
        )
        self._mounted = True
        for part in ("upper", "work", "root"):
            (self.folder / part).mkdir(mode=0o755)
        _write_contents(self.folder / "upper", self.contents)

    def fill(self) -> None:
        """Leave no free block: every further write on the host fails with ENOSPC."""
        state = os.statvfs(self.folder)
        self._resize((state.f_blocks - state.f_bfree) * state.f_frsize)

    def free(self) -> None:
        """Give the disk its whole size back."""
        self._resize(self.size_bytes)

    def _resize(self, size_bytes: int) -> None:
        flags = kernel.MS_REMOUNT | kernel.MS_NODEV
        kernel.mount("lab-disk", str(self.folder), "tmpfs", flags, f"size={size_bytes},mode=755")


def _write_contents(upper: Path, contents: Contents) -> None:
    for folder in MASKED + contents.masked:
        _hide(upper, folder)
    _write_accounts(upper / "etc", contents)
    _write_names(upper / "etc", contents)
    _write_ssh(upper, contents)
    if contents.init == "systemd":
        _write_systemd(upper / "etc", contents)


def _hide(upper: Path, folder: str) -> None:
    """Show an empty folder where the machine has a full one."""
    if not Path(folder).is_dir():
        return
    hidden = upper / folder.lstrip("/")
    hidden.mkdir(parents=True, exist_ok=True)
    hidden.chmod(stat.S_IMODE(Path(folder).stat().st_mode))
    os.setxattr(hidden, "trusted.overlay.opaque", b"y")


def _write_accounts(etc: Path, contents: Contents) -> None:
    """System accounts of this machine plus the lab's user; nobody else's account is shown."""
    users = _system_lines("/etc/passwd")
    groups = _system_lines("/etc/group")
    users.append(f"{USER}:x:{USER_ID}:{USER_ID}::/home/{USER}:/bin/bash")
    groups.append(f"{USER}:x:{USER_ID}:")
    etc.mkdir(parents=True, exist_ok=True)
    _write(etc / "passwd", "".join(f"{line}\n" for line in users))
    _write(etc / "group", "".join(f"{line}\n" for line in groups))
    # '*' is no password at all; '!' would lock the account for keys as well.
    shadow = "".join(f"{line.split(':')[0]}:*:19000:0:99999:7:::\n" for line in users)
    _write(etc / "shadow", shadow, mode=0o640)


def _system_lines(path: str) -> list[str]:
    lines = []
    for line in Path(path).read_text().splitlines():
        fields = line.split(":")
        number = int(fields[2]) if len(fields) > 2 and fields[2].isdigit() else -1
        if (0 <= number < 1000 or number == 65534) and fields[0] != USER:
            lines.append(line)
    return lines


def _write_names(etc: Path, contents: Contents) -> None:
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in contents.peers.items())]
    _write(etc / "hosts", "".join(f"{line}\n" for line in lines))
    _write(etc / "hostname", f"{contents.name}\n")
    _write(etc / "machine-id", f"{uuid.uuid4().hex}\n")
    _write(etc / "resolv.conf", "# The lab has no way out, and so no name server.\n")
    _write(etc / "fstab", "")


def _write_ssh(upper: Path, contents: Contents) -> None:
    ssh = upper / "etc/ssh"
    ssh.mkdir(parents=True)
    _write(ssh / "lab_host_key", contents.host_key, mode=0o600)
    _write(ssh / "sshd_lab_config", SSHD_CONFIG.format(pam="yes" if contents.init == "systemd" else "no"))
    home = upper / "home" / USER
    (home / ".ssh").mkdir(parents=True)
    _write(home / ".ssh/authorized_keys", contents.authorized_key, mode=0o600)
    (home / ".ssh").chmod(0o700)
    home.chmod(0o755)
    for path in (home, home / ".ssh", home / ".ssh/authorized_keys"):
        os.chown(path, USER_ID, USER_ID)


def _write_systemd(etc: Path, contents: Contents) -> None:
    system = etc / "systemd/system"
    wants = system / "multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    for unit in MASKED_UNITS:
        (system / unit).symlink_to("/dev/null")
    _write(system / "lab-sshd.service", SSHD_UNIT)
    (wants / "lab-sshd.service").symlink_to("/etc/systemd/system/lab-sshd.service")
    generators = etc / "systemd/system-generators"
    generators.mkdir(parents=True, exist_ok=True)
    # Start scripts of this machine's own daemons must not be turned into units of the host.
    (generators / "systemd-sysv-generator").symlink_to("/dev/null")


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.write_text(text)
    path.chmod(mode)

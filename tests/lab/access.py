"""What a client needs to get in: key pairs, a known_hosts and an ssh_config.

In: the lab's folder and its machines. Out: files in that folder. With sudo, the person behind it owns the key.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from pathlib import Path

from tests.lab.disk import USER
from tests.lab.machine import Machine

KEY_WITHIN_S = 30


def make_key(path: Path, comment: str) -> str:
    """Make an ed25519 key pair without a passphrase, in place of an old one; give the public half, one line."""
    path.unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=KEY_WITHIN_S)
    return path.with_name(path.name + ".pub").read_text().strip()


def write_client_files(folder: Path, machines: Collection[Machine], person: int | None) -> None:
    """Write known_hosts and ssh_config; give the key to the user id `person`, if there is one."""
    known = []
    config = []
    for machine in machines:
        kind, key = (folder / "host_keys" / f"{machine.name}.pub").read_text().split()[:2]
        known.append(f"{machine.address},{machine.name} {kind} {key}\n")
        config.append(f"Host {machine.name}\n  HostName {machine.address}\n")
    config.append(
        f"Host *\n  User {USER}\n  IdentityFile {folder / 'key'}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder / 'known_hosts'}\n  StrictHostKeyChecking yes\n"
    )
    (folder / "known_hosts").write_text("".join(known))
    (folder / "ssh_config").write_text("".join(config))
    if person is not None:
        os.chown(folder / "key", person, -1)

"""The lab itself: hosts are real enough, faults do what they say, nothing is left behind."""

from __future__ import annotations

import subprocess

import pytest

from tests.lab.fixtures import Hosts
from tests.lab.host import Host

SSH_TIMEOUT_S = 20


def ssh(host: Host, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(host.ssh_argv(command), capture_output=True, text=True, timeout=SSH_TIMEOUT_S)


@pytest.mark.parametrize("name", ["h1", "h4"])
def test_ssh_gets_in(hosts: Hosts, name: str) -> None:
    host = hosts[name]
    done = ssh(host, "id -un; hostname; pwd")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["dyn", name, "/home/dyn"]


def test_disk_survives_a_power_cycle_and_not_a_wipe(hosts: Hosts) -> None:
    host = hosts["h1"]
    assert ssh(host, "touch ~/kept /tmp/lost && sync").returncode == 0
    host.power_cycle()
    assert ssh(host, "ls ~; ls /tmp").stdout.split() == ["kept"]
    host.wipe()
    assert ssh(host, "ls ~").stdout.split() == []

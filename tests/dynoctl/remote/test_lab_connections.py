"""Connections on the lab's hosts: cut lines, power cuts, frozen machines, full disks, and a window of many hosts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynoctl.errors import CommandFailed, HostKeyChanged, Unreachable
from dynoctl.remote.connection import Completed
from dynoctl.remote.deadline import PATIENCE, Patience
from dynoctl.remote.dial import Connections, Dialler
from dynoctl.remote.host_keys import HostKeys
from dynoctl.remote.ssh_config import SshConfig
from dynoctl.remote.target import Person
from dynoctl.remote.window import over
from dynoctl.topology.machines import Ssh
from tests.dynoctl.remote.conftest import Machine
from tests.lab.fixtures import Hosts
from tests.lab.host import Host

LIMIT_S = 60.0
BRIEF = Patience(quiet_s=1.0, answer_s=2.0)


class Reach:
    """Connections to lab hosts, closed after the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[Connections] = []

    def to(self, *machines: Machine, pin: bool = True, patience: Patience = PATIENCE) -> Connections:
        keys = HostKeys(self.folder / "known_hosts", pin=pin)
        dialler = Dialler(machines, keys, config=SshConfig(), person=Person("nobody"), patience=patience)
        self.opened.append(Connections(dialler))
        return self.opened[-1]


@pytest.fixture
def reach(tmp_path: Path) -> Iterator[Reach]:
    made = Reach(tmp_path)
    yield made
    for connections in made.opened:
        connections.close()


def machine(host: Host, name: str | None = None, *, connect_timeout_s: float = 10.0) -> Machine:
    settings = Ssh(user=host.user, port=host.port, key=str(host.key), connect_timeout_s=connect_timeout_s)
    return Machine(name or host.name, host.address, settings)


def test_it_is_really_another_host(hosts: Hosts, reach: Reach) -> None:
    host = hosts[0]
    done = (
        reach.to(machine(host))
        .to(host.name)
        .run("cat /proc/sys/kernel/hostname; id -un; echo ~", timeout_s=LIMIT_S)
    )
    assert done.out.decode().split() == [host.name, host.user, f"/home/{host.user}"]


def test_a_file_below_the_home_folder(hosts: Hosts, reach: Reach) -> None:
    host = hosts[0]
    connection = reach.to(machine(host)).to(host.name)
    connection.put(b"content", "~/.dynoctl/a b/file", mode=0o600, timeout_s=LIMIT_S)
    assert host.exec(["cat", f"/home/{host.user}/.dynoctl/a b/file"]).stdout == "content"
    assert host.exec(["stat", "-c%a %U", f"/home/{host.user}/.dynoctl/a b"]).stdout == f"700 {host.user}\n"


def test_a_full_disk_is_named_and_the_part_is_removed(hosts: Hosts, reach: Reach) -> None:
    host = hosts[0]
    connection = reach.to(machine(host)).to(host.name)
    connection.run("mkdir folder", timeout_s=LIMIT_S)
    host.disk_full()
    with pytest.raises(CommandFailed) as caught:
        connection.put(bytes(19_000_000), "~/folder/file", mode=0o755, timeout_s=LIMIT_S)
    host.disk_free()
    assert caught.value.message == f"{host.name}: cannot write ~/folder/file: the disk is full"
    assert caught.value.next == f"ssh -i {host.key} {host.user}@{host.address} 'df -h \"$HOME\"/folder'"
    assert connection.run("ls -A folder", timeout_s=LIMIT_S).out == b""


def test_a_folder_that_may_not_be_written(hosts: Hosts, reach: Reach) -> None:
    host = hosts[0]
    with pytest.raises(CommandFailed) as caught:
        reach.to(machine(host)).to(host.name).put(b"x", "/etc/here/file", mode=0o600, timeout_s=LIMIT_S)
    assert caught.value.message == f"{host.name}: cannot write /etc/here/file: permission denied"


@pytest.mark.parametrize("fault", ["cut", "freeze", "poweroff"])
def test_a_host_that_goes_away_during_a_command_is_noticed(hosts: Hosts, reach: Reach, fault: str) -> None:
    host = hosts[0]
    connections = reach.to(machine(host), patience=BRIEF)
    connection = connections.to(host.name)
    with pytest.raises(Unreachable) as caught:
        connection.run("echo; sleep 600", timeout_s=600, on_line=lambda line: getattr(host, fault)())
    assert caught.value.message == (
        f"{host.name}: {host.address}:22 has not answered for 2 s; the machine may be frozen or overloaded"
    )
    assert not connection.alive
    {"cut": host.heal, "freeze": host.thaw, "poweroff": host.poweron}[fault]()
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        try:
            assert connections.to(host.name).run("pkill sleep; echo back", timeout_s=LIMIT_S).out == b"back\n"
            return
        except Unreachable:
            continue
    raise AssertionError("it did not come back")


def test_a_link_that_is_cut_for_a_moment_is_survived(hosts: Hosts, reach: Reach) -> None:
    host = hosts[0]
    connection = reach.to(machine(host)).to(host.name)
    seen: list[str] = []

    def flap(line: str) -> None:
        seen.append(line)
        if line == "begun":
            host.cut()
            time.sleep(1)
            host.heal()

    done = connection.run("echo begun; sleep 0.5; echo ended", timeout_s=LIMIT_S, on_line=flap)
    assert (done.status, seen) == (0, ["begun", "ended"])


def test_an_upload_that_the_line_cuts_off_leaves_the_old_file(hosts: Hosts, reach: Reach) -> None:
    host = hosts[0]
    connections = reach.to(machine(host), patience=BRIEF)
    connection = connections.to(host.name)
    connection.put(b"old", "~/file", mode=0o600, timeout_s=LIMIT_S)
    host.rate(8_000_000)
    threading.Timer(1.0, host.cut).start()
    with pytest.raises(Unreachable):
        connection.put(bytes(60_000_000), "~/file", mode=0o600, timeout_s=LIMIT_S)
    host.heal()
    assert host.exec(["cat", f"/home/{host.user}/file"]).stdout == "old"


def test_a_machine_installed_anew_is_refused_until_the_pin_is_removed(hosts: Hosts, reach: Reach) -> None:
    host = hosts[0]
    reach.to(machine(host)).to(host.name)
    host.wipe(new_host_key=True)
    with pytest.raises(HostKeyChanged) as caught:
        reach.to(machine(host)).to(host.name)
    assert caught.value.next == f"ssh-keygen -R {host.address} -f {reach.folder / 'known_hosts'}"


def test_of_many_nodes_the_dead_one_is_named_and_the_others_are_done(hosts: Hosts, reach: Reach) -> None:
    """Fifteen nodes on two hosts, and one that is powered off; with the default time to connect it takes 10 s."""
    alive, off = hosts[:2], hosts[2]
    off.poweroff()
    nodes = [machine(alive[number % 2], f"n{number}", connect_timeout_s=2.0) for number in range(15)]
    connections = reach.to(*nodes, machine(off, "dead", connect_timeout_s=2.0))
    order: list[str] = []
    outcomes: dict[str, object] = {}
    names = ["dead", *(each.name for each in nodes)]
    for node, outcome in over(
        names, lambda name: connections.to(name).run("hostname", timeout_s=LIMIT_S), window=4
    ):
        order.append(node)
        outcomes[node] = outcome
    error = outcomes.pop("dead")
    assert isinstance(error, Unreachable)
    assert (
        error.message == f"dead: {off.address}:22 did not answer within 2 s (is it up, and is the port open?)"
    )
    assert all(isinstance(outcome, Completed) and outcome.status == 0 for outcome in outcomes.values())
    assert order[-1] == "dead"
    off.poweron()

"""Nodes behind bastions, over real SSH: ProxyJump, chains of it, ProxyCommand."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from dynoctl.errors import DynoctlError, HostKeyUnknown, Unreachable
from dynoctl.remote.connection import Completed
from dynoctl.remote.window import over
from tests.dynoctl.remote.conftest import Reach, machine
from tests.dynoctl.remote.sshd import Sshd, free_port

Start = Callable[..., Sshd]
LIMIT_S = 30.0


def block(name: str, server: Sshd, *more: str) -> str:
    """A `Host` block for a bastion."""
    lines = [
        f"Host {name}",
        "HostName 127.0.0.1",
        f"Port {server.port}",
        f"User {server.user}",
        f"IdentityFile {server.client_key}",
        *more,
    ]
    return "\n ".join(lines) + "\n"


def test_a_node_is_reached_through_a_bastion(sshd: Start, reach: Reach) -> None:
    bastion, server = sshd(LogLevel="VERBOSE"), sshd(LogLevel="VERBOSE")
    config = f"{block('bastion', bastion)}Host 127.0.0.1\n ProxyJump bastion\n"
    connections = reach.to(server, config=config)
    assert connections.to("n1").run("cat", stdin=b"through", timeout_s=LIMIT_S).out == b"through"
    assert [each.name for each in reach.pinned] == [
        f"[127.0.0.1]:{bastion.port}",
        f"[127.0.0.1]:{server.port}",
    ]
    assert bastion.log.read_text().count("Accepted publickey") == 1
    assert "Accepted publickey" in server.log.read_text()


def test_a_chain_of_hops_each_with_its_own_settings(sshd: Start, reach: Reach) -> None:
    first, second, server = sshd(), sshd(), sshd()
    config = f"{block('one', first)}{block('two', second)}Host 127.0.0.1\n ProxyJump one,two\n"
    # Each hop answers to its own key only, so that all three were used shows that each got its own.
    assert reach.to(server, config=config).to("n1").run("echo hi", timeout_s=LIMIT_S).out == b"hi\n"
    assert len(reach.pinned) == 3


def test_a_hop_may_have_a_hop_of_its_own_in_the_config(sshd: Start, reach: Reach) -> None:
    first, second, server = sshd(), sshd(), sshd()
    config = f"{block('one', first)}{block('two', second, 'ProxyJump one')}Host 127.0.0.1\n ProxyJump two\n"
    assert reach.to(server, config=config).to("n1").run("echo hi", timeout_s=LIMIT_S).out == b"hi\n"
    assert len(reach.pinned) == 3


def test_all_nodes_behind_a_bastion_share_one_connection_to_it(sshd: Start, reach: Reach) -> None:
    bastion, server = sshd(LogLevel="VERBOSE", MaxStartups="1"), sshd()
    config = f"{block('bastion', bastion)}Host 127.0.0.1\n ProxyJump bastion\n"
    names = [f"n{number}" for number in range(12)]
    connections = reach.to_machines(*(machine(name, server) for name in names), config=config)
    outcomes = dict(over(names, lambda name: connections.to(name).run("echo hi", timeout_s=LIMIT_S)))
    assert set(outcomes) == set(names)
    assert all(isinstance(outcome, Completed) and outcome.out == b"hi\n" for outcome in outcomes.values())
    assert bastion.log.read_text().count("Accepted publickey") == 1


def test_a_bastion_that_is_down_is_told_for_each_node_and_tried_once(sshd: Start, reach: Reach) -> None:
    server = sshd()
    port = free_port()
    config = (
        f"Host bastion\n HostName 127.0.0.1\n Port {port}\n User me\nHost 127.0.0.1\n ProxyJump bastion\n"
    )
    names = ["n1", "n2", "n3"]
    connections = reach.to_machines(*(machine(name, server) for name in names), config=config)
    outcomes = dict(over(names, lambda name: connections.to(name)))
    for name in names:
        error = outcomes[name]
        assert isinstance(error, Unreachable)
        assert error.message == (
            f"{name}: on the way to it, 127.0.0.1:{port} refused the connection (is sshd running there?)"
        )
        assert error.next == f"ssh -p {port} me@bastion"


def test_a_node_that_the_bastion_cannot_reach(sshd: Start, reach: Reach) -> None:
    bastion, server = sshd(), sshd()
    server.stop()
    config = f"{block('bastion', bastion)}Host 127.0.0.1\n ProxyJump bastion\n"
    with pytest.raises(Unreachable) as caught:
        reach.to(server, config=config).to("n1")
    assert caught.value.message == (
        f"n1: the hop 127.0.0.1:{bastion.port} cannot connect to 127.0.0.1:{server.port} "
        "(from there it refuses, or cannot be reached)"
    )
    assert caught.value.next == (
        f"ssh -p {server.port} -i {server.client_key} "
        f"-J {bastion.user}@127.0.0.1:{bastion.port} {server.user}@127.0.0.1"
    )


def test_a_bastion_that_forbids_it(sshd: Start, reach: Reach) -> None:
    bastion, server = sshd(AllowTcpForwarding="no"), sshd()
    config = f"{block('bastion', bastion)}Host 127.0.0.1\n ProxyJump bastion\n"
    with pytest.raises(Unreachable) as caught:
        reach.to(server, config=config).to("n1")
    assert caught.value.message.endswith("(it forbids forwarding: see AllowTcpForwarding in its sshd_config)")


def test_a_bastion_whose_key_is_unknown_is_not_trusted(sshd: Start, reach: Reach) -> None:
    bastion, server = sshd(), sshd()
    config = f"{block('bastion', bastion)}Host 127.0.0.1\n ProxyJump bastion\n"
    why = f"n1: on the way to it, the host key of 127.0.0.1:{bastion.port} is not known"
    with pytest.raises(HostKeyUnknown, match=why):
        reach.to(server, config=config, pin=False).to("n1")


def test_a_bastion_that_dies_breaks_the_nodes_behind_it_and_is_dialled_anew(
    sshd: Start, reach: Reach
) -> None:
    bastion, server = sshd(), sshd()
    config = f"{block('bastion', bastion)}Host 127.0.0.1\n ProxyJump bastion\n"
    connections = reach.to(server, config=config)
    connection = connections.to("n1")

    def cut(line: str) -> None:
        for pid in bastion.processes()[1:]:
            subprocess.run(["kill", "-9", str(pid)], check=False)

    with pytest.raises(Unreachable) as caught:
        connection.run("echo; sleep 60", timeout_s=LIMIT_S, on_line=cut)
    assert caught.value.message == (
        f"n1: the connection to 127.0.0.1:{server.port} was lost while a command was running"
    )
    assert connections.to("n1").run("echo again", timeout_s=LIMIT_S).out == b"again\n"


_RELAY = """
import os, select, socket, sys
out = socket.create_connection((sys.argv[1], int(sys.argv[2])))
pairs = {0: out.fileno(), out.fileno(): 1}
while True:
    for ready in select.select(list(pairs), [], [])[0]:
        data = os.read(ready, 65536)
        if not data:
            sys.exit()
        os.write(pairs[ready], data)
"""


def test_a_proxy_command_carries_the_connection_and_is_ended(sshd: Start, reach: Reach) -> None:
    server = sshd()
    (server.home / "relay.py").write_text(_RELAY)
    command = shlex.join([sys.executable, str(server.home / "relay.py"), "%h", "%p"])
    connections = reach.to(server, config=f"Host 127.0.0.1\n ProxyCommand {command}\n")
    assert connections.to("n1").run("cat", stdin=b"x" * 100_000, timeout_s=LIMIT_S).out == b"x" * 100_000
    connections.close()
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"127.0.0.1 {server.port}" not in listed


def test_a_proxy_command_that_fails_is_named(
    reach: Reach, sshd: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynoctl.remote.ssh.link.FIRST_PAUSE_S", 0.001)
    server = sshd()
    with pytest.raises(DynoctlError) as caught:
        reach.to(server, config="Host 127.0.0.1\n ProxyCommand sh -c 'echo no way >&2; exit 3'\n").to("n1")
    assert caught.value.message == (
        f"n1: the ProxyCommand for 127.0.0.1:{server.port} ended 6 times, at last with status 3: no way"
    )


def test_a_frozen_bastion_is_noticed_when_a_node_behind_it_is_dialled(sshd: Start, reach: Reach) -> None:
    bastion, server = sshd(), sshd()
    config = f"{block('bastion', bastion)}Host 127.0.0.1\n ProxyJump bastion\n"
    machines = [machine(name, server, timeout_s=0.5) for name in ("n1", "n2")]
    connections = reach.to_machines(*machines, config=config)
    connections.to("n1")
    bastion.signal(signal.SIGSTOP)
    with pytest.raises(Unreachable) as caught:
        connections.to("n2")
    assert caught.value.message == (
        f"n2: 127.0.0.1:{server.port} did not answer within 0.5 s (is it up, and is the port open?)"
    )

"""From the topology's settings and the SSH config to where and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynoctl.errors import UsageError
from dynoctl.remote.ssh_config import SshConfig
from dynoctl.remote.ssh_lines import ConfigFile
from dynoctl.remote.target import Person, Target, resolve
from dynoctl.topology.machines import Ssh

ME = Person("me", "/run/agent")


def target(host: str, config: str = "", settings: Ssh | None = None) -> Target:
    return resolve("n1", host, settings or Ssh(), SshConfig([ConfigFile("config", config, "")]), ME)


def test_without_a_config_the_defaults_of_ssh_hold() -> None:
    home = str(Path("~").expanduser())
    assert target("10.0.0.2") == Target(
        node="n1",
        host="10.0.0.2",
        hostname="10.0.0.2",
        port=22,
        user="me",
        keys=("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"),
        agent="/run/agent",
        known_hosts=(
            f"{home}/.ssh/known_hosts",
            f"{home}/.ssh/known_hosts2",
            "/etc/ssh/ssh_known_hosts",
        ),
        connect_timeout_s=8.0,
    )


def test_the_topology_wins_over_the_config() -> None:
    config = "Host gpu\n HostName 10.0.0.9\n User u\n Port 2200\n IdentityFile /a\n ConnectTimeout 3\n"
    found = target("gpu", config, Ssh(user="ubuntu", port=22, key="/mine", connect_timeout_s=5.0))
    assert (found.hostname, found.user, found.port, found.connect_timeout_s) == (
        "10.0.0.9",
        "ubuntu",
        22,
        5.0,
    )
    assert found.keys == ("/mine", "/a")
    plain = target("gpu", config)
    assert (plain.user, plain.port, plain.keys, plain.connect_timeout_s) == ("u", 2200, ("/a",), 3.0)


@pytest.mark.parametrize(
    ("config", "agent"),
    [
        ("", "/run/agent"),
        ("IdentityAgent none", None),
        ("IdentityAgent SSH_AUTH_SOCK", "/run/agent"),
        ("IdentityAgent /other/agent", "/other/agent"),
    ],
)
def test_the_agent_may_be_another_one_or_none(config: str, agent: str | None) -> None:
    assert target("a", config).agent == agent


def test_known_hosts_files_may_be_elsewhere_or_nowhere() -> None:
    assert target("a", "UserKnownHostsFile /x /y\nGlobalKnownHostsFile none").known_hosts == ("/x", "/y")
    assert target("a", "UserKnownHostsFile /dev/null\nGlobalKnownHostsFile /g").known_hosts == ("/g",)


@pytest.mark.parametrize(
    ("config", "port", "name"),
    [
        ("", None, "gpu"),
        ("", 2200, "[gpu]:2200"),
        ("HostName GPU.Example.COM", None, "gpu.example.com"),
        ("HostKeyAlias rack-7", 2200, "rack-7"),
    ],
)
def test_the_name_in_known_hosts(config: str, port: int | None, name: str) -> None:
    assert target("gpu", config, Ssh(port=port)).known_as == name


class TestHops:
    def test_each_hop_has_its_own_part_of_the_config(self) -> None:
        found = target(
            "gpu",
            "Host gpu\n ProxyJump me@first:2200,second\nHost first\n HostName 1.1.1.1\n User no\n"
            "Host second\n Port 7\n IdentityFile /two\n",
            Ssh(user="ubuntu", key="/mine"),
        )
        assert [(hop.hostname, hop.port, hop.user) for hop in found.hops] == [
            ("1.1.1.1", 2200, "me"),
            ("second", 7, "me"),
        ]
        assert found.hops[1].keys == ("/two",)
        assert found.hops[0].named_keys is False
        assert found.login == "ssh -i /mine -J me@1.1.1.1:2200,me@second:7 ubuntu@gpu"

    def test_the_first_hop_may_have_hops_of_its_own(self) -> None:
        found = target("gpu", "Host gpu\n ProxyJump b\nHost b\n ProxyJump a\n")
        assert [hop.host for hop in found.hops] == ["a", "b"]
        assert all(hop.hops == () for hop in found.hops)

    @pytest.mark.parametrize("spec", ["[::1]:2200", "me@[::1]:2200", "ssh://[::1]:2200"])
    def test_addresses_of_version_6(self, spec: str) -> None:
        (hop,) = target("gpu", f"Host gpu\n ProxyJump {spec}\n").hops
        assert (hop.hostname, hop.port, hop.where) == ("::1", 2200, "[::1]:2200")

    def test_none_is_no_hop(self) -> None:
        assert target("gpu", "Host gpu\n ProxyJump none\nHost *\n ProxyJump b\n").hops == ()

    def test_a_jump_goes_before_a_command(self) -> None:
        found = target("gpu", "Host gpu\n ProxyJump b\n ProxyCommand nc x\n")
        assert found.proxy_command is None
        assert target("gpu", "Host gpu\n ProxyCommand nc %h\n").proxy_command == "nc gpu"
        assert target("gpu", "ProxyCommand none").proxy_command is None

    def test_a_circle_is_an_error(self) -> None:
        with pytest.raises(UsageError) as caught:
            target("a", "Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
        assert caught.value.message == "n1: the ProxyJump of a goes in a circle: a → b → a"

    def test_a_jump_that_is_not_one_is_an_error(self) -> None:
        with pytest.raises(UsageError) as caught:
            target("a", "ProxyJump b:port")
        assert caught.value.message == "n1: ProxyJump 'b:port' is not of the form [user@]host[:port]"


def test_a_port_that_is_not_a_number_is_an_error() -> None:
    with pytest.raises(UsageError) as caught:
        target("gpu", "Port ssh")
    assert caught.value.message == "n1: the SSH config says port 'ssh' for gpu, which is not a number"
    assert caught.value.next == "ssh -G gpu"


def test_the_way_to_log_in_by_hand_is_quoted() -> None:
    found = target("gpu 1", settings=Ssh(user="u", port=2200, key="/my keys/id"))
    assert found.login == "ssh -p 2200 -i '/my keys/id' 'u@gpu 1'"

"""Nodes behind a bastion, by the names of an SSH config, as people have them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.real.clusters import AGG, generate, on, sets
from tests.real.dynoctl_runs import Dynoctl

Machines = tuple[Host, ...]


@contextmanager
def closed(host: Host, here: str) -> Iterator[None]:
    """Its sshd cannot be reached from this machine."""
    rule = ["INPUT", "-p", "tcp", "--dport", "22", "-s", here, "-j", "DROP"]
    host.exec(["iptables", "-I", *rule], check=True)
    try:
        yield
    finally:
        host.exec(["iptables", "-D", *rule], check=True)


def config(near: Host, far: Host) -> str:
    """`near` is a bastion, `far` is behind it."""
    return f"""
Host near
  HostName {near.address}
Host far
  HostName {far.address}
  ProxyJump near
Host *
  User {near.user}
  IdentityFile {near.key}
  IdentitiesOnly yes
"""


def test_through_a_bastion(machines: Machines, real_lab: Lab, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    near, far = machines[0], machines[3]
    dynoctl.ssh_config.write_text(config(near, far))
    topology = [
        *on(AGG, wheelhouse, near, far),
        *sets({"nodes.node1.host": "near", "nodes.node2.host": "far"}),
    ]
    with closed(far, real_lab.here):
        done = dynoctl("up", *topology).ok()
        assert f"address  http://{near.address}:8000" in done.out
        pinned = (dynoctl.known / "hello-agg" / "known_hosts").read_text().splitlines()
        assert sorted(line.split()[0] for line in pinned) == sorted([near.address, far.address])
        assert generate(near, "Tell me a joke").output.startswith("Tell me a joke_GeneratedBy_h")
        shown = dynoctl("status").ok()
        assert "node2 decode    decode-0   ●●●●●  serving" in shown.out
        dynoctl("down").ok()


def test_a_bastion_that_is_off(machines: Machines, real_lab: Lab, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    near, far = machines[1], machines[3]
    dynoctl.ssh_config.write_text(config(near, far))
    near.poweroff()
    topology = [*on(AGG, wheelhouse, machines[0], far), *sets({"nodes.node2.host": "far"})]
    done = dynoctl("up", *topology)
    assert done.code == 1
    why = (
        "did not answer within 2 s (is it up, and is the port open?)",
        "(no route to host: is it up?)",
    )
    assert done.error[0].startswith("error: node2: on the way to it, ")
    assert f"{near.address}:22" in done.error[0]
    assert done.error[0].endswith(why)
    assert done.error[1] == f"next: ssh -i {near.key} dyn@near"

"""`up` that does not come to its end: killed, interrupted, cut off, without power. The next run understands it."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.lab.host import Host
from tests.real.clusters import AGG, DISAGG, generate, on, pids, sets
from tests.real.dynoctl_runs import Dynoctl
from tests.real.left import left

Machines = tuple[Host, ...]
KILLS = 10
LONGEST_S = 2.5


@pytest.mark.timeout(400)
def test_killed_at_a_random_moment_ten_times(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    """Each time everything is to be changed; twice it begins with an empty host. Then one `down` for all of it."""
    seed = int(os.environ.get("DYNO_SEED") or random.randrange(1 << 32))
    print(f"DYNO_SEED={seed}")
    chance = random.Random(seed)
    first, second = machines[0], machines[3]
    topology = on(AGG, wheelhouse, first, second)
    first.wipe()
    for number in range(KILLS):
        if number == KILLS // 2:
            dynoctl("down").ok()
            second.wipe()
        changed = [
            *topology,
            *sets({"roles.decode.env.ROUND": str(number), "roles.frontend.env.ROUND": str(number)}),
        ]
        with dynoctl.start("up", *changed) as child:
            time.sleep(chance.uniform(0.3, LONGEST_S))
            child.kill()
        done = dynoctl("up", *changed)
        assert done.code == 0, f"DYNO_SEED={seed}, round {number}:\n{done.err}"
        now = pids(dynoctl)
        assert len(now) == 5
        _one_of_each(first, second, set(now.values()))
        assert generate(first, "Tell me a joke").output.startswith("Tell me a joke_GeneratedBy_h")
    dynoctl("down").ok()
    assert left(first) + left(second) == []


def _one_of_each(first: Host, second: Host, pids: set[int]) -> None:
    """On both hosts run the processes that `status` shows and their supervisors, and none of an earlier try."""
    running = [each for host in (first, second) for each in host.processes() if each.argv[-1:] != ("-D",)]
    servers = [each for each in running if "supervise" not in each.argv]
    supervisors = [each for each in running if "supervise" in each.argv]
    assert {each.pid for each in servers} == pids, "\n".join(map(str, servers))
    assert len(supervisors) == len(servers) == 5, "\n".join(map(str, supervisors))


def test_ctrl_c(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    topology = on(AGG, wheelhouse, machines[0], machines[3])
    slow = sets({"roles.decode.engine.args.load_s": 300.0})
    with dynoctl.start("up", *topology, *slow) as child:
        child.wait_for("node2/decode-0 decode 3/4 registered: engine loading")
        child.interrupt()
        done = child.end()
    assert done.code == 130
    assert done.error[0] == "error: interrupted; 5 units started by this run go on running"
    assert sorted(done.error[1:-1]) == [
        "  node1: start decode-0 on ports 7300, 7800",
        "  node1: start etcd on ports 2379, 2380",
        "  node1: start frontend-0 on ports 8000, 7000",
        "  node1: start nats on port 4222",
        "  node2: start decode-0 on ports 7300, 7800",
    ]
    assert done.error[-1] == "next: the same up goes on from here, dynoctl down hello-agg removes it"
    shown = dynoctl("status")  # the lock went with it
    assert (shown.code, "at work on it" in shown.out) == (1, False)
    dynoctl("down").ok()


def test_ctrl_c_before_anything_is_done(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    machines[1].freeze()
    topology = [*on(AGG, wheelhouse, machines[0], machines[1]), "--set", "ssh.connect_timeout_s=60"]
    with dynoctl.start("up", *topology) as child:
        child.wait_for("node1: host key pinned")
        child.interrupt()
        assert child.ends_within(10.0)
        done = child.end()
    assert (done.code, done.err.splitlines()[-1]) == (130, "interrupted")


def test_a_link_is_cut_while_roles_load(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    """The node is named, although the frontend, too, could complain: it misses a worker."""
    first, second = machines[0], machines[3]
    topology = on(AGG, wheelhouse, first, second)
    slow = sets({"roles.decode.engine.args.load_s": 45.0})
    with dynoctl.start("up", *topology, *slow) as child:
        child.wait_for("node2/decode-0 decode 3/4 registered: engine loading")
        second.cut()
        done = child.end()
    assert done.code == 1
    lost = (
        f"error: node2: the connection to {second.address}:22 was lost while a command was running",
        f"error: node2: {second.address}:22 has not answered for 15 s; the machine may be frozen or overloaded",
    )
    assert done.error[0] in lost
    assert done.error[-1] == f"next: ssh -i {second.key} dyn@{second.address}"
    second.heal()
    dynoctl("up", *topology).ok()
    dynoctl("down").ok()


@pytest.mark.parametrize("then", ["up", "down"])
def test_a_node_loses_power_in_the_middle(
    machines: Machines, dynoctl: Dynoctl, wheelhouse: Path, then: str
) -> None:
    first, second, third = machines[0], machines[3], machines[2]
    topology = on(DISAGG, wheelhouse, first, second, third)
    with dynoctl.start("up", *topology) as child:
        child.wait_for(
            "node3: start prefill-0 on ports 7400, 7900: done" if then == "up" else "etcd on node1 is proven"
        )
        third.poweroff()
        child.kill()
    third.poweron()
    if then == "up":
        dynoctl("up", *topology).ok()
        assert generate(first, "Which team won 2020 World Series").prefill == "remote:node3/prefill-0"
    done = dynoctl("down").ok()
    assert done.out.startswith("hello-disagg is down: nothing of it is left on 3 nodes (")


def test_somebody_else_is_at_work(
    machines: Machines, dynoctl: Dynoctl, wheelhouse: Path, tmp_path: Path
) -> None:
    topology = on(AGG, wheelhouse, machines[0], machines[3])
    other = Dynoctl(tmp_path / "elsewhere")
    slow = sets({"roles.decode.engine.args.load_s": 300.0})
    with dynoctl.start("up", *topology, *slow) as child:
        child.wait_for("node2/decode-0 decode 3/4 registered: engine loading")
        for verb in (["up", *topology, "--yes"], ["up", *topology, *slow], ["down", *topology]):
            done = other(*verb)
            assert done.code == 3
            assert done.error[0].startswith("error: root on ")
            assert " has been working on this cluster since 20" in done.error[0]
            assert done.error[0].endswith("Z: dynoctl up")
            assert done.error[1].startswith("  the lock is on node1; if that run is dead, it expires in ")
            assert done.error[2] == "next: wait for it to end, then run the same command again"
        shown = other("status", *topology)
        assert ", dynoctl up (lock on node1)\n" in shown.out
        child.kill()
    dynoctl("up", *topology).ok()  # on the machine of the dead one, that it is dead is seen at once
    dynoctl("down").ok()


def test_the_cluster_changes_between_look_and_lock(
    machines: Machines, dynoctl: Dynoctl, wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan for what is not there any more is not carried out."""
    from dynoctl.cli import up

    topology = on(AGG, wheelhouse, machines[0], machines[3])
    other = Dynoctl(tmp_path / "elsewhere")
    other("up", *topology).ok()
    shown = up._show

    def meanwhile(*arguments: object, **more: object) -> None:
        monkeypatch.setattr(up, "_show", shown)
        other("up", *topology, "--set", "roles.router.policy=random").ok()

    monkeypatch.setattr(up, "_show", meanwhile)
    done = dynoctl("up", *topology, "--set", "roles.decode.env.A=1")
    assert (done.code, done.error) == (
        1,
        [
            "error: somebody else changed hello-agg on node1, node2 while this run was planned; "
            "nothing was changed by this one",
            "next: the same again: it looks and plans anew",
        ],
    )
    other("down").ok()

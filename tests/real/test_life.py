"""A cluster through its days: machines lose power, leave the file, are looked after from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyno_node import pack
from tests.lab.host import Host
from tests.real.clusters import AGG, generate, of_the_lab_page, on, pids, written
from tests.real.dynoctl_runs import Dynoctl
from tests.real.left import left

Machines = tuple[Host, ...]
ROLES = {
    "frontend": {"node": "node1", "port": 8000},
    "processor": {"node": "node1"},
    "router": {"node": "node1", "policy": "similar"},
    "decode": {"nodes": ["node1", "node2"]},
}


def test_power_off_and_on(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path, tmp_path: Path) -> None:
    """What the page of the lab shows, on the cluster that it shows."""
    first, second, third = machines[0], machines[1], machines[3]
    topology = on(of_the_lab_page(tmp_path), wheelhouse, first, second, third)
    dynoctl("up", *topology).ok()
    before = pids(dynoctl)
    third.poweroff()
    shown = dynoctl("status")
    assert shown.code == 1
    assert shown.error == [
        f"error: node3: {third.address}:22 did not answer within 2 s (is it up, and is the port open?)",
        f"next: ssh -i {third.key} dyn@{third.address}",
    ]
    rows = [line.split() for line in shown.out.splitlines()]
    assert rows[-1][:7] == ["node3", "prefill", "prefill-0", "○○○○○", "down", "-", "0"]
    assert " ".join(rows[-1][7:]) == "its node did not answer"
    assert [row[4] for row in rows if row[:2] == ["node2", "decode"]] == ["serving"]

    refused = dynoctl("up", *topology)
    assert (refused.code, refused.error[0][:14]) == (1, "error: node3: ")
    half = dynoctl("down", "--dry-run")
    assert (half.code, half.error[0][:14]) == (0, "error: node3: ")

    third.poweron()
    done = dynoctl("up", *topology).ok()
    assert "start prefill-0 on ports 7400" in done.err
    after = pids(dynoctl)
    assert {unit for unit, pid in after.items() if before[unit] != pid} == {"node3/prefill-0"}
    assert generate(first, "Which team won 2020 World Series").prefill == "remote:node3/prefill-0"
    dynoctl("down").ok()


def test_power_loss_of_the_services_node(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    """etcd and NATS come back with their data, and the worker that went on registers again."""
    first, second = machines[3], machines[1]  # the one with systemd
    topology = on(AGG, wheelhouse, first, second)
    dynoctl("up", *topology).ok()
    before = pids(dynoctl)
    first.power_cycle()
    assert dynoctl("status").code == 1
    dynoctl("up", *topology).ok()
    assert pids(dynoctl)["node2/decode-0"] == before["node2/decode-0"]
    assert {generate(first, prompt).worker for prompt in ("abcdefgh", "12345678")} == {
        "node1/decode-0",
        "node2/decode-0",
    }
    dynoctl("down").ok()


def test_down_with_a_machine_that_is_off(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    first, second = machines[0], machines[1]
    dynoctl("up", *on(AGG, wheelhouse, first, second)).ok()
    second.poweroff()
    done = dynoctl("down")
    assert done.code == 1
    assert done.error[-3:] == [
        "error: hello-agg is not proven to be down",
        "  node2: it did not answer, so what runs there is not known",
        "next: dynoctl down hello-agg",
    ]
    assert left(first) == []
    second.poweron()
    again = dynoctl("down").ok()  # what the power loss left on its disk
    assert again.out.startswith("hello-agg is down: nothing of it is left on 1 node (")


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
def test_a_node_leaves_the_file(
    machines: Machines, dynoctl: Dynoctl, wheelhouse: Path, tmp_path: Path, elsewhere: bool
) -> None:
    """Its units are stopped and its folder is removed, also from a machine that never heard of that node."""
    hosts = {"node1": machines[0], "node2": machines[1], "node3": machines[3]}
    roles = {**ROLES, "decode": {"nodes": list(hosts)}}
    dynoctl("up", written(tmp_path, "leaves", wheelhouse, hosts, roles=roles)).ok()
    before = pids(dynoctl)
    del hosts["node3"]
    person = Dynoctl(tmp_path / "elsewhere") if elsewhere else dynoctl
    done = person("up", written(tmp_path, "leaves", wheelhouse, hosts, roles=ROLES)).ok()
    assert "node3        stop decode-0 and forget it  (not in the topology any more)" in done.err
    assert "remove its folder            (the node is not in the topology any more)" in done.err
    assert left(machines[3]) == []
    after = pids(person)
    assert {unit for unit, pid in after.items() if before[unit] != pid} == {"node1/frontend-0"} - set(after)
    person("down").ok()


def test_from_another_machine(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path, tmp_path: Path) -> None:
    """The file is enough: nothing but the way to say NAME is kept where `up` was typed."""
    topology = on(AGG, wheelhouse, machines[0], machines[3])
    dynoctl("up", *topology).ok()
    other = Dynoctl(tmp_path / "elsewhere")
    unknown = other("status", *topology)
    assert unknown.code == 1
    assert "only `dynoctl up` pins keys, also with --dry-run" in unknown.error[0]
    assert unknown.error[1] == f"next: ssh -i {machines[0].key} dyn@{machines[0].address}"
    other.ssh_config.write_text(f"Host *\n UserKnownHostsFile {machines[0].known_hosts}\n")
    shown = other("status", *topology).ok()
    assert shown.out.startswith("hello-agg serves (generation 1)\n")
    done = other("up", *topology).ok()
    assert done.out.startswith("hello-agg: no changes; all 5 units run as the topology says.\n")
    third = Dynoctl(tmp_path / "third")
    third.ssh_config.write_text(other.ssh_config.read_text())
    gone = third("down", *topology).ok()
    assert gone.out.startswith("hello-agg is down: nothing of it is left on 2 nodes (")
    not_up = dynoctl("down", "hello-agg").ok()
    assert not_up.out == "hello-agg was not up: nothing of it is on 2 nodes.\n"


def test_a_node_moves_to_another_machine(
    machines: Machines, dynoctl: Dynoctl, wheelhouse: Path, tmp_path: Path
) -> None:
    """The file gives node2 another address: what ran at the old one is stopped there."""
    first, old, new = machines[0], machines[1], machines[3]
    hosts = {"node1": first, "node2": old}
    dynoctl("up", written(tmp_path, "moves", wheelhouse, hosts, roles=ROLES)).ok()
    hosts["node2"] = new
    done = dynoctl("up", written(tmp_path, "moves", wheelhouse, hosts, roles=ROLES)).ok()
    assert f"node2@{old.address} stop decode-0 and forget it  (not in the topology any more)" in done.err
    assert left(old) == []
    assert {generate(first, prompt).output[-2:] for prompt in ("abcdefgh", "12345678")} == {"h1", "h4"}
    dynoctl("down").ok()


def test_a_node_that_left_the_file_is_gone_for_good(
    machines: Machines, dynoctl: Dynoctl, wheelhouse: Path, tmp_path: Path
) -> None:
    hosts = {"node1": machines[0], "node2": machines[1]}
    dynoctl("up", written(tmp_path, "gone", wheelhouse, hosts, roles=ROLES)).ok()
    machines[1].poweroff()
    del hosts["node2"]
    topology = written(tmp_path, "gone", wheelhouse, hosts, roles={**ROLES, "decode": {"node": "node1"}})
    refused = dynoctl("up", topology)
    where = f"{machines[1].address}:22"
    assert refused.code == 1
    assert refused.error == [
        "error: node2: it is not in the topology any more, and what runs there cannot be stopped: "
        f"{where} did not answer within 2 s (is it up, and is the port open?)",
        "next: bring it back until this is done, or forget it: the same with --yes",
    ]
    done = dynoctl("up", topology, "--yes").ok()
    assert "warning: node2 is forgotten with whatever runs there: " in done.err
    dynoctl("down").ok()
    machines[1].poweron()
    assert left(machines[1]) != []  # its folder, of a dead cluster
    machines[1].wipe()


def test_status_and_logs_of_what_another_version_brought_up(
    machines: Machines, dynoctl: Dynoctl, wheelhouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verbs that only look bring nothing to the nodes: they ask the node program that is there."""
    dynoctl("up", *on(AGG, wheelhouse, machines[0], machines[3])).ok()
    monkeypatch.setattr(pack, "digest", lambda: "0123456789abcdef")
    assert dynoctl("status").ok().out.startswith("hello-agg serves (generation 1)\n")
    assert "node2/decode-0 | " in dynoctl("logs", "--role", "decode").ok().out
    monkeypatch.undo()
    dynoctl("down").ok()

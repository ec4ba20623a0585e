"""Hosts that are not as they should be: what `up` says of them, word for word, and what it leaves alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lab.host import Host
from tests.real.clusters import AGG, DISAGG, on, sets, written
from tests.real.dynoctl_runs import Dynoctl

Machines = tuple[Host, ...]
NOTHING = "error: hello-disagg cannot be brought up as the nodes are; nothing was changed"


@pytest.fixture
def fresh(machines: Machines) -> Host:
    """h3 with a fresh disk."""
    machines[2].wipe()
    return machines[2]


def test_a_host_that_is_cut_off_is_named_and_the_others_are_asked(
    machines: Machines, dynoctl: Dynoctl, wheelhouse: Path, tmp_path: Path
) -> None:
    hosts = {f"node{number}": host for number, host in enumerate(machines, start=1)}
    roles = {
        "frontend": {"node": "node1"},
        "processor": {"node": "node1"},
        "router": {"node": "node1"},
        "decode": {"nodes": list(hosts)},
    }
    machines[1].cut()
    done = dynoctl("up", written(tmp_path, "four", wheelhouse, hosts, roles=roles))
    assert done.code == 1
    assert done.error == [
        f"error: node2: {machines[1].address}:22 did not answer within 2 s (is it up, and is the port open?)",
        f"next: ssh -i {machines[1].key} dyn@{machines[1].address}",
    ]
    # The others were asked: their keys are pinned.
    pinned = (dynoctl.known / "four" / "known_hosts").read_text().splitlines()
    assert sorted(line.split()[0] for line in pinned) == sorted(
        machines[number].address for number in (0, 2, 3)
    )


def test_a_frozen_host_is_named(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    machines[2].freeze()
    done = dynoctl("up", *on(AGG, wheelhouse, machines[0], machines[2]))
    assert (done.code, done.error[0]) == (
        1,
        f"error: node2: {machines[2].address}:22 did not answer within 2 s (is it up, and is the port open?)",
    )


def test_refused_keys(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    shown = subprocess.run(["ssh-keygen", "-lf", key], check=True, capture_output=True, text=True)
    first, second = machines[:2]
    done = dynoctl("up", *on(AGG, wheelhouse, first, second), "--set", f"ssh.key={key}")
    assert done.code == 1
    assert done.error == [
        line
        for node, host in (("node1", first), ("node2", second))
        for line in (
            f"error: {node}: {host.address}:22 does not let user dyn in with the key that we have",
            f"  {key} ({shown.stdout.split()[1]}): refused",
            f"next: ssh -v -i {key} dyn@{host.address}",
        )
    ] + [
        "error: 2 of 2 nodes could not be asked; nothing was changed",
        "next: mend them, or take them out of the topology",
    ]


def test_a_changed_host_key(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    first, second = machines[:2]
    topology = on(AGG, wheelhouse, first, second)
    dynoctl("up", *topology).ok()
    dynoctl("down").ok()
    before = _fingerprint(second)
    second.wipe(new_host_key=True)
    after = _fingerprint(second)
    assert before != after
    known = dynoctl.known / "hello-agg" / "known_hosts"
    line = next(
        number
        for number, text in enumerate(known.read_text().splitlines(), start=1)
        if text.startswith(f"{second.address} ")
    )
    for verb in ("up", "status", "down"):
        done = dynoctl(verb, *topology)
        assert done.code == 1
        assert done.error[:5] == [
            f"error: node2: {second.address}:22 shows another host key than the one that is known; "
            "nothing was sent to it",
            f"  known: ED25519 {before} ({known}:{line})",
            f"  shown: ED25519 {after}",
            "  Was the machine installed anew? Then remove the known key. "
            "If not, somebody may stand in between.",
            f"next: ssh-keygen -R {second.address} -f {known}",
        ]
    # What it says to do is what helps.
    subprocess.run(["ssh-keygen", "-R", second.address, "-f", known], check=True, capture_output=True)
    assert dynoctl("up", *topology, "--dry-run").code == 0


def _fingerprint(host: Host) -> str:
    done = subprocess.run(
        ["ssh-keygen", "-l", "-F", host.address, "-f", host.known_hosts],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()[-1]


def test_no_python(machines: Machines, fresh: Host, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    fresh.exec(["sh", "-c", "rm /usr/bin/python3*"], check=True)
    try:
        done = dynoctl("up", *on(DISAGG, wheelhouse, machines[0], machines[1], fresh))
    finally:
        fresh.wipe()
    assert (done.code, done.error) == (
        1,
        [
            NOTHING,
            "  node3: there is no python3 on the node; dynoctl needs 3.11 or newer there",
            "next: install python3 on node3 (Debian, Ubuntu: apt install python3 python3-venv)",
        ],
    )


def test_python_without_venv(machines: Machines, fresh: Host, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    fresh.exec(["rm", "-r", "/usr/lib/python3.11/ensurepip"], check=True)
    try:
        done = dynoctl("up", *on(DISAGG, wheelhouse, machines[0], machines[1], fresh))
    finally:
        fresh.wipe()
    assert (done.code, done.error) == (
        1,
        [
            NOTHING,
            "  node3: its python3 3.11.2 has no venv module, so no environment can be built",
            "next: apt install python3-venv on node3, or name an environment in the topology: "
            "nodes.node3.python",
        ],
    )


def test_a_full_disk_is_seen_before_anything_is_sent(
    machines: Machines, fresh: Host, dynoctl: Dynoctl, wheelhouse: Path
) -> None:
    fresh.disk_full()
    done = dynoctl("up", *on(DISAGG, wheelhouse, machines[0], machines[1], fresh))
    assert (done.code, done.error) == (
        1,
        [
            NOTHING,
            "  node3: only 0 MB are free below /home/dyn/.dynoctl; dynoctl wants 500 MB",
            "next: free some space on node3, or move it: nodes.node3.state_dir",
        ],
    )


def test_the_disk_fills_up_during_a_push(
    machines: Machines, fresh: Host, dynoctl: Dynoctl, wheelhouse: Path
) -> None:
    fresh.rate(50_000_000)
    topology = on(AGG, wheelhouse, machines[0], fresh)
    with dynoctl.start("up", *topology) as child:
        child.wait_for("node2: push the wheelhouse")
        fresh.disk_full()
        done = child.end()
    assert done.code == 1
    assert done.error[0].startswith("error: node2: cannot write /home/dyn/.dynoctl/wheels/")
    assert done.error[0].endswith(".zip: the disk is full")
    assert done.error[-1].startswith(f"next: ssh -i {fresh.key} dyn@{fresh.address} 'df -h ")
    fresh.heal()
    fresh.disk_free()
    found = fresh.exec(["find", "/home/dyn/.dynoctl", "-name", "*.part-*"], check=True)
    assert found.stdout == ""
    dynoctl("up", *topology).ok()
    dynoctl("down").ok()


def test_the_disk_is_full_at_the_start(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    """A prepared host: nothing is to be sent, but its settings cannot be written."""
    first, second = machines[:2]
    topology = on(AGG, wheelhouse, first, second)
    dynoctl("up", *topology).ok()
    second.disk_full()
    done = dynoctl("up", *topology, "--set", "roles.decode.env.LEVEL=2")
    assert (done.code, done.error) == (
        1,
        [
            "error: node2: cannot record the topology, generation 2: the disk is full",
            "next: mend that, then the same up again; or dynoctl down hello-agg",
        ],
    )
    gone = dynoctl("down").ok()  # a full disk is no reason to stay
    assert gone.out.startswith("hello-agg is down: nothing of it is left on 2 nodes (")


def test_a_port_that_a_stranger_has(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    """A port that the file names is in the way; of the others the next free one is taken."""
    first, second = machines[:2]
    strangers = [
        subprocess.Popen(first.exec_argv(["python3", "-m", "http.server", port]), stderr=subprocess.PIPE)
        for port in ("8000", "4222")
    ]
    try:
        first.exec(["sh", "-c", "until [ $(ss -Hltn | wc -l) = 4 ]; do sleep 0.02; done"], check=True)
        topology = on(AGG, wheelhouse, first, second)
        done = dynoctl("up", *topology)
        assert (done.code, done.error) == (
            1,
            [
                "error: hello-agg cannot be brought up as the nodes are; nothing was changed",
                "  node1: port 8000, which frontend-0 is to take, is held by a process that is not ours",
                f"next: ssh -i {first.key} dyn@{first.address} ss -ltnp 'sport = :8000'",
            ],
        )
        free = dynoctl("up", *topology, *sets({"roles.frontend.port": 8001})).ok()
        assert "start nats on port 4223" in free.err
        dynoctl("down").ok()
    finally:
        for stranger in strangers:
            stranger.kill()
            stranger.communicate()

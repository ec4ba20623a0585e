"""The two deployments of hello world over SSH: which worker answers, who prefills, and nothing is left behind."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.lab.host import Host
from tests.real.clusters import AGG, DISAGG, Answer, generate, on, pids
from tests.real.dynoctl_runs import Dynoctl
from tests.real.left import left

Machines = tuple[Host, ...]


def curl(host: Host, prompt: str) -> dict[str, str]:
    """The request as a person types it on the first node."""
    body = json.dumps({"prompt": prompt, "request_id": "id_number"})
    headers = ["-H", "accept: text/event-stream", "-H", "Content-Type: application/json"]
    command = ["curl", "-sS", "-X", "POST", "http://localhost:8000/generate", *headers, "-d", body]
    done = host.exec(command, user="dyn", check=True)
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def test_aggregated(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    first, second = machines[0], machines[1]
    topology = on(AGG, wheelhouse, first, second)
    done = dynoctl("up", *topology).ok()
    assert "hello-agg is up: 5 units on 2 nodes, generation 1, in " in done.out
    assert f"address  http://{first.address}:8000" in done.out

    joke = curl(first, "Tell me a joke")
    sports = curl(first, "Which team won 2020 World Series")
    fact = curl(first, "Tell me a fact")
    makers = [answer["worker_output"].rpartition("_GeneratedBy_")[2] for answer in (joke, sports, fact)]
    assert sorted(makers[:2]) == ["h1", "h2"]  # two different prompts: two workers
    assert makers[2] == makers[0]  # prompts that begin alike: one worker
    assert joke == {"worker_output": f"Tell me a joke_GeneratedBy_{makers[0]}", "request_id": "id_number"}
    assert fact == {"worker_output": f"Tell me a fact_GeneratedBy_{makers[0]}", "request_id": "id_number"}
    node = {"h1": "node1", "h2": "node2"}[makers[0]]
    output = f"Tell me a joke_GeneratedBy_{makers[0]}"
    assert generate(first, "Tell me a joke", "7") == Answer(output, "7", f"{node}/decode-0", "local")
    _no_changes(dynoctl, topology, "hello-agg", 5, first)
    _down(dynoctl, "hello-agg", machines, 2)


def test_disaggregated(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    """One node with systemd, two without, in one cluster."""
    first, second, third = machines[0], machines[3], machines[2]
    topology = on(DISAGG, wheelhouse, first, second, third)
    done = dynoctl("up", *topology, "--json").ok().json
    assert [(proof["worker"], proof["remote_prefill"]) for proof in done["proofs"]] == [
        ("node1/decode-0", "node3/prefill-0"),
        ("node2/decode-0", "node3/prefill-0"),
    ]
    prompt = "This is prefill disagg serving example"
    answer = generate(first, prompt, "12345")
    host = {"node1/decode-0": "h1", "node2/decode-0": "h4"}[answer.worker]
    assert answer == Answer(f"{prompt}_GeneratedBy_{host}", "12345", answer.worker, "remote:node3/prefill-0")
    other = generate(first, "Which team won 2020 World Series")
    assert (other.prefill, other.worker != answer.worker) == ("remote:node3/prefill-0", True)
    assert curl(first, "This is prefill disagg serving example!")["worker_output"].endswith(f"By_{host}")
    _no_changes(dynoctl, topology, "hello-disagg", 6, first)
    found = {kind for host in (first, second) for line in left(host) for kind in [line.split(" ")[1]]}
    assert found == {"process", "port", "cgroup", "file", "systemd"}  # what the look after `down` can see
    _down(dynoctl, "hello-disagg", machines, 3)


def test_only_what_changed_is_restarted(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    topology = on(AGG, wheelhouse, machines[0], machines[1])
    dynoctl("up", *topology).ok()
    before = pids(dynoctl, "hello-agg")
    done = dynoctl("up", *topology, "--set", "roles.router.policy=random").ok()
    after = pids(dynoctl, "hello-agg")
    assert {unit for unit, pid in after.items() if before[unit] != pid} == {"node1/frontend-0"}
    assert "node1        stop frontend-0  (its settings changed)" in done.err
    assert "hello-agg: 1 to start, 1 to stop, 4 unchanged." in done.err
    assert "generation 2, in " in done.out
    dynoctl("down").ok()


def test_processes_outlive_ssh_and_dynoctl(machines: Machines, dynoctl: Dynoctl, wheelhouse: Path) -> None:
    """Every login on the hosts ends, on both kinds of host, and everything goes on."""
    topology = on(AGG, wheelhouse, machines[0], machines[3])
    dynoctl("up", *topology).ok()
    before = pids(dynoctl, "hello-agg")
    for host in (machines[0], machines[3]):
        # The last login ends too: systemd would end what belongs to a session.
        subprocess.run(host.ssh_argv("true"), check=True, timeout=20)
        host.exec(["pkill", "-KILL", "-u", "dyn", "-x", "sshd"])
    assert pids(dynoctl, "hello-agg") == before
    assert generate(machines[0], "Tell me a joke").output.startswith("Tell me a joke_GeneratedBy_h")
    dynoctl("down").ok()


def _no_changes(dynoctl: Dynoctl, topology: list[str], name: str, units: int, first: Host) -> None:
    before = pids(dynoctl, name)
    for _ in range(2):
        done = dynoctl("up", *topology).ok()
        assert done.out == (
            f"{name}: no changes; all {units} units run as the topology says.\n"
            f"address  http://{first.address}:8000\n"
        )
        assert done.err == ""
    assert pids(dynoctl, name) == before


def _down(dynoctl: Dynoctl, name: str, machines: Machines, nodes: int) -> None:
    done = dynoctl("down").ok()
    assert done.out.startswith(f"{name} is down: nothing of it is left on {nodes} nodes (")
    assert [line for host in machines for line in left(host)] == []
    again = dynoctl("status", name)
    assert (again.code, again.error[0]) == (
        2,
        f"error: there is no file '{name}', and no cluster of that name is known here",
    )

"""Workers larger than a node on two lab hosts: a real Ray whose GPUs are only declared, and a real vLLM over both."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import needs
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.real import engines
from tests.real.clusters import written
from tests.real.dynoctl_runs import Dynoctl
from tests.real.left import left
from tests.servers import wait_for

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(360)]

Pair = tuple[Host, ...]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Two hosts that have the environment of the real engines."""
    if reason := needs.missing(systemd=False) or engines.missing():
        if os.environ.get("DYNO_REQUIRE_VLLM") != "1":
            pytest.skip(reason)
        pytest.fail(f"DYNO_REQUIRE_VLLM=1, but {reason}")
    with Lab() as lab:
        hosts = lab.start(2, shown=engines.shown())
        for host in hosts:
            engines.prepare(host)
        yield hosts


def topology(folder: Path, name: str, pair: Pair, **parts: object) -> str:
    nodes = dict(zip(("node1", "node2"), pair, strict=True))
    return written(folder, name, Path("/"), nodes, python=engines.PYTHON, **parts)


def environment(host: Host, pid: int) -> dict[str, str]:
    """The environment of a process on a host."""
    raw = host.exec(["cat", f"/proc/{pid}/environ"], check=True).stdout
    return dict(pair.split("=", 1) for pair in raw.split("\0") if "=" in pair)


def ray_processes(host: Host) -> dict[int, str]:
    """The raylets and servers of Ray that run on a host, by pid."""
    found = host.exec(["ps", "-eo", "pid=,args="], check=True).stdout.splitlines()
    lines = [line.split(None, 1) for line in found]
    return {int(pid): args for pid, args in lines if "/raylet/raylet" in args or "/gcs/gcs_server" in args}


@pytest.fixture
def foreign_ray(pair: Pair) -> Iterator[set[int]]:
    """A Ray of somebody else on the first host, at Ray's usual place; its processes."""
    ray = [engines.PYTHON, "-m", "ray.scripts.scripts"]
    address = f"--node-ip-address={pair[0].address}"
    flags = ["--disable-usage-stats", "--include-dashboard=false", "--object-store-memory=100000000"]
    pair[0].exec([*ray, "start", "--head", address, "--num-gpus=1", *flags], user="dyn", check=True)
    yield set(ray_processes(pair[0]))
    pair[0].exec([*ray, "stop", "--force"], user="dyn")


def test_two_workers_on_two_ray_clusters_of_the_same_hosts(
    pair: Pair, dynoctl: Dynoctl, tmp_path: Path, foreign_ray: set[int]
) -> None:
    first, second = pair
    spans = [
        {"span": ["node1", "node2"], "tp": 4, "executor": "ray"},
        {"span": ["node2", "node1"], "tp": 2, "executor": "ray"},
    ]
    roles = {"frontend": {"node": "node1"}, "router": {"node": "node1"}, "decode": spans}
    file = topology(tmp_path, "rays", pair, engine={"kind": "mock"}, roles=roles)
    said = dynoctl("up", file).ok().err
    for worker in ("node1/decode-0", "node2/decode-1"):
        assert f"Ray of {worker} is proven: it has all its GPUs, on 2 nodes" in said
        assert f"a token came back from {worker}" in said

    roles_now = dynoctl("status", "--json").ok().json["roles"]
    workers = {f"{one['node']}/{one['unit']}": one["pid"] for one in roles_now if one["role"] == "decode"}
    assert sum(one["role"] == "ray" for one in roles_now) == 4
    heads = {"node1/decode-0": (first, 8400, 4), "node2/decode-1": (second, 8401, 2)}
    for worker, (host, port, gpus) in heads.items():
        address = f"{host.address}:{port}"
        assert environment(host, workers[worker])["RAY_ADDRESS"] == address
        log = dynoctl("logs", "--role", worker).ok().out
        assert f"Ray at {address} has {gpus} GPUs on 2 nodes" in log
        assert log.index("has") < log.index("the engine is ready")

    dynoctl("down").ok()
    assert set(ray_processes(first)) == foreign_ray
    assert ray_processes(second) == {}
    assert left(second) == []
    assert first.exec(["ls", "/home/dyn/.dynoctl/ray"], user="dyn").stdout == ""


# ---- vLLM over both hosts ------------------------------------------------------------------------------

VLLM_ENV = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
VLLM = {
    "kind": "vllm",
    "device": "cpu",
    "block_size": 32,
    "max_model_len": 512,
    "args": {"enforce-eager": True, "dtype": "float32", "kv-cache-memory-bytes": "64M", "max-num-seqs": 4},
}
SPAN: dict[str, object] = {"span": ["node1", "node2"], "tp": 2, "executor": "mp"}
PROMPT = [7 * number % 1000 + 3 for number in range(100)]


def vllm_topology(folder: Path, pair: Pair, decode: dict[str, object]) -> str:
    """The tiny model, whose weights are saved and whose head is its own, so that every engine has the same."""
    model = {"id": f"{engines.MODELS}/tiny", "served_name": "tiny"}
    roles = {"frontend": {"node": "node1"}, "decode": decode}
    return topology(folder, "spread", pair, engine=VLLM, model=model, roles=roles, env=VLLM_ENV)


def tokens(host: Host, salt: str) -> list[str]:
    """What the worker makes of the prompt, always taking the likeliest token."""
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 24, "temperature": 0, "cache_salt": salt}
    request = urllib.request.Request(
        f"http://{host.address}:8000/v1/completions",
        json.dumps({**body, "ignore_eos": True, "logprobs": 1}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60.0) as answer:
        return list(json.loads(answer.read())["choices"][0]["logprobs"]["tokens"])


def test_vllm_over_two_hosts_says_what_it_says_on_one_and_dies_as_one(
    pair: Pair, dynoctl: Dynoctl, tmp_path: Path
) -> None:
    first, second = pair
    dynoctl("up", vllm_topology(tmp_path, pair, {"node": "node1"})).ok()
    alone = tokens(first, "alone")
    assert len(alone) == 24
    assert len(set(alone)) > 5  # it is no model that always says the same
    dynoctl("up", vllm_topology(tmp_path, pair, SPAN), "--yes").ok()
    assert tokens(first, "spread") == alone

    def units() -> dict[str, tuple[str, int]]:
        roles = dynoctl("status", "--json").json["roles"]  # which ends with 1 where not all is well
        return {one["role"]: (one["state"], one["pid"]) for one in roles}

    before = units()
    for host, role in zip(pair, ("decode", "rank"), strict=True):
        env = environment(host, before[role][1])
        shown = host.exec(["ip", "-o", "-4", "addr", "show", "to", host.address], check=True).stdout
        assert (env["VLLM_HOST_IP"], env["GLOO_SOCKET_IFNAME"]) == (host.address, shown.split()[1])
    assert before["rank"][0] == "loaded"
    second.exec(["kill", "-9", str(before["rank"][1])], check=True)
    why = (
        "rank 1 is lost, node2/decode-0-rank1: its process ended, or its node; the worker starts anew as one"
    )
    wait_for(lambda: units()["decode"][0] != before["decode"][0], "the worker leaves", 30.0)
    wait_for(lambda: units()["decode"][0] == before["decode"][0], "it is back, as one", 180.0)
    after = units()
    assert all(after[role][1] != before[role][1] for role in ("decode", "rank"))
    assert why in dynoctl("logs", "--role", "node1/decode-0").ok().out
    assert tokens(first, "again") == alone
    dynoctl("down").ok()
    assert [line for host in pair for line in left(host)] == []

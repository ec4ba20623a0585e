"""GPUs and networks of nodes: found by a real shell, given to workers, refused where they do not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dynoctl.errors import Blocked
from dynoctl.plan.gpus import GpuBook, spelled
from dynoctl.plan.hardware import HARDWARE, MIB, Gpu, Hardware
from dynoctl.plan.observed import Observed
from dynoctl.plan.steps import RecordTopology
from dynoctl.topology.model import Topology
from tests.dynoctl.plan import world
from tests.dynoctl.plan.looked import SHELLS, Node

VLLM = """\
name: c
model: {id: org/m}
engine: {kind: vllm}
nodes: {n1: {host: 10.0.0.1, gpus: 8}, n2: {host: 10.0.0.2}}
services: {etcd: n1, nats: n1}
roles:
  frontend: {node: n1}
  decode: [{node: n1, tp: 2, replicas: 2, gpu_ids: [5, 4, 1, 0]}, {node: n1, tp: 2}, {node: n2, tp: 4}]
"""
SMI = """#!/bin/sh
[ "$1" = --query-gpu=index,uuid,name,memory.total,memory.used ] || exit 9
echo '0, GPU-aa, NVIDIA H100 80GB HBM3, 81559, 4'
echo '1, GPU-bb, NVIDIA H100 80GB HBM3, 81559, 61000'
echo '2, GPU-cc, NVIDIA GB10, [N/A], [N/A]'
echo 'Unable to determine the device handle for GPU 0000:3B:00.0'
"""


def gpus(count: int, *busy: int) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(index, f"GPU-{index}", "H100", 80_000 * MIB, 60_000 * MIB if index in busy else 4 * MIB)
        for index in range(count)
    )


def found(wanted: Topology, **hardware: Hardware) -> Observed:
    """Fresh nodes, each with the hardware of a machine that is as the topology says unless told otherwise."""
    return Observed(
        {
            name: world.empty(
                name,
                hardware=hardware.get(
                    name, Hardware(gpus(8), (("lo", "127.0.0.1"), ("eth0", machine.address)))
                ),
            )
            for name, machine in wanted.machines.items()
        }
    )


def env(plan: Any, unit: str) -> dict[str, str]:
    (spec,) = (spec for spec in plan.units if f"{spec.node}/{spec.name}" == unit)
    skipped = ("PYTHON", "NATS", "ETCD")
    return {name: value for name, value in spec.document["env"].items() if not name.startswith(skipped)}


def refusal(wanted: Topology, observed: Observed) -> tuple[tuple[str, ...], str | None]:
    with pytest.raises(Blocked) as caught:
        world.planned(wanted, observed)
    return caught.value.detail, caught.value.next


def test_gpus_and_addresses_as_a_shell_finds_them(node: Node, tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    node.home.mkdir(parents=True)
    seen = node.look(hardware=True, PATH=f"{tmp_path}:{os.environ['PATH']}").hardware
    assert seen is not None
    assert seen.gpus == (
        Gpu(0, "GPU-aa", "NVIDIA H100 80GB HBM3", 81559 * MIB, 4 * MIB),
        Gpu(1, "GPU-bb", "NVIDIA H100 80GB HBM3", 81559 * MIB, 61000 * MIB),
        Gpu(2, "GPU-cc", "NVIDIA GB10", 0, 0),
    )
    assert [gpu.busy for gpu in seen.gpus] == [False, True, False]
    assert seen.interface("127.0.0.1") == "lo"
    assert seen.interface("192.0.2.77") is None
    assert node.look(PATH=os.environ["PATH"]).hardware is None  # nobody asked


@pytest.mark.parametrize("shell", SHELLS)
def test_addresses_without_iproute2(shell: str, tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to(sys.executable)
    script = f"ask_hardware=yes\n{HARDWARE.command}"
    words = [shell, "sh"] if shell.endswith("busybox") else [shell]
    done = subprocess.run([*words, "-c", script], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    seen = HARDWARE.parse(done.stdout)["hardware"]
    assert (seen.gpus, seen.interface("127.0.0.1")) == (None, "lo")


def test_what_iproute2_prints() -> None:
    text = (
        "addresses\n1: lo    inet 127.0.0.1/8 scope host lo\\ valid_lft forever\n"
        "7: eth0@if8    inet 10.77.0.1/24 brd 10.77.0.255 scope global eth0\\ valid_lft forever\n"
        "7: eth0@if8    inet6 FE80::1/64 scope link \\ valid_lft forever\n9: odd\nrdma\nmlx5_1:1\nmlx5_0:1\n"
    )
    seen = HARDWARE.parse(text)["hardware"]
    assert seen == Hardware(
        None, (("lo", "127.0.0.1"), ("eth0", "10.77.0.1"), ("eth0", "fe80::1")), ("mlx5_0:1", "mlx5_1:1")
    )
    assert HARDWARE.parse("gpus\naddresses\n") == {"hardware": None}  # cut short


def test_every_worker_gets_gpus_of_its_own_and_the_network_that_peers_dial() -> None:
    wanted = world.topology(VLLM)
    rdma = Hardware(gpus(8), (("lo", "127.0.0.1"), ("eth1", "10.0.0.2")), ("mlx5_0:1",))
    plan = world.planned(wanted, found(wanted, n2=rdma))
    assert [env(plan, f"n1/decode-{index}")["CUDA_VISIBLE_DEVICES"] for index in range(3)] == [
        "5,4",
        "1,0",
        "2,3",
    ]
    assert env(plan, "n2/decode-0") == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
        "VLLM_HOST_IP": "10.0.0.2",
        "GLOO_SOCKET_IFNAME": "eth1",
        "NCCL_SOCKET_IFNAME": "=eth1",
        "UCX_NET_DEVICES": "mlx5_0:1,eth1",
    }
    assert env(plan, "n1/frontend-0") == {}
    assert "n2: start decode-0 on ports 7300, 7800, GPUs 0-3" in world.titles(plan)


def test_what_the_topology_says_about_the_network_wins() -> None:
    wanted = world.topology(VLLM, "env.NCCL_SOCKET_IFNAME=ib0", "roles.decode.2.env.VLLM_HOST_IP=10.1.0.2")
    plan = world.planned(wanted, found(wanted))
    assert (env(plan, "n2/decode-0")["VLLM_HOST_IP"], env(plan, "n1/decode-0")["NCCL_SOCKET_IFNAME"]) == (
        "10.1.0.2",
        "ib0",
    )


def test_on_the_processor_no_gpu_is_taken_and_on_one_machine_no_network() -> None:
    wanted = world.topology(
        "name: c\nmodel: {id: m}\nengine: {kind: vllm, device: cpu}\nroles: {frontend: {}, decode: {tp: 2}}"
    )
    observed = Observed({"local": world.empty("local", hardware=Hardware(None, (("lo", "127.0.0.1"),)))})
    plan = world.planned(wanted, observed)
    assert env(plan, "local/decode-0") == {"VLLM_HOST_IP": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    assert plan.warnings == ()


def test_a_worker_keeps_its_gpus_and_network_and_a_quick_look_changes_nothing() -> None:
    two = VLLM.replace("{node: n1, tp: 2}, ", "").replace("gpu_ids: [5, 4, 1, 0]", "gpu_ids: [0, 1, 2, 3]")
    wanted = world.topology(two)
    after = world.up(wanted, found(wanted))
    assert after.nodes["n1"].manifest is not None
    assert after.nodes["n1"].manifest["gpus"] == {"decode-0": [0, 1], "decode-1": [2, 3]}
    quick = Observed({name: world.empty(name) for name in wanted.machines})
    quick = Observed({name: world.replaced(after.nodes[name], hardware=None) for name in quick.nodes})
    assert world.planned(wanted, quick).steps == ()
    # One more comes, and the GPUs of the first are in use now: by itself.
    more = world.topology(two.replace("{node: n2, tp: 4}", "{node: n2, tp: 4}, {node: n2}"))
    hardware = Hardware(gpus(8, 0, 1, 2, 3), (("eth0", "10.0.0.2"),))
    again = Observed({**after.nodes, "n2": world.replaced(after.nodes["n2"], hardware=hardware)})
    plan = world.planned(more, again)
    assert [env(plan, f"n2/decode-{index}")["CUDA_VISIBLE_DEVICES"] for index in (0, 1)] == ["0,1,2,3", "4"]
    assert list(world.starts(plan)) == ["n2/decode-1"]


def test_gpus_that_are_not_there_or_taken_are_refused_all_at_once() -> None:
    wanted = world.topology(VLLM.replace("gpus: 8", "gpus: 16"))
    here = (("eth0", "10.0.0.1"),)
    there = Hardware(gpus(3, 1), (("eth0", "10.0.0.2"),))
    detail, next_ = refusal(wanted, found(wanted, n1=Hardware(gpus(8), here), n2=there))
    assert detail == (
        "n1: the topology says that it has 16 GPUs, and nvidia-smi finds 8",
        "n2: decode-0 needs 4 GPUs, and only 3 of the node's are left",
        "n2: GPU 1, which decode-0 is to take, is in use by somebody else (62.9 of 83.9 GB)",
    )
    assert next_ == "nvidia-smi, and mend nodes.n1.gpus"
    named = world.topology(VLLM.replace("gpus: 8", "gpus: 6").replace("[5, 4, 1, 0]", "[5, 4, 3, 2]"))
    detail, next_ = refusal(named, found(named, n1=Hardware(gpus(6, 4, 5), here)))
    assert detail == (
        "n1: GPUs 5,4, which decode-0 is to take, are in use by somebody else (62.9 of 83.9 GB, 62.9 of 83.9 GB)",
    )
    assert next_ == "nvidia-smi shows by whom"


def test_chosen_gpus_step_aside_for_strangers() -> None:
    wanted = world.topology(VLLM)
    plan = world.planned(wanted, found(wanted, n2=Hardware(gpus(8, 0, 2), (("eth0", "10.0.0.2"),))))
    assert env(plan, "n2/decode-0")["CUDA_VISIBLE_DEVICES"] == "1,3,4,5"


def test_a_worker_that_failed_leaves_its_gpus_to_whoever_took_them() -> None:
    wanted = world.topology(VLLM.replace("{node: n2, tp: 4}", "{node: n2, tp: 2, replicas: 2}"))
    after = world.up(wanted, found(wanted))
    taken = Hardware(gpus(8, 0, 1, 2, 3), (("eth0", "10.0.0.2"),))
    busy = Observed({**after.nodes, "n2": world.replaced(after.nodes["n2"], hardware=taken)})
    for phase, gpus_now in (("failed", "4,5"), ("stopped", "4,5"), ("dead", "0,1")):
        state = {"phase": phase, "alive": False, "supervised": False, "exit": {"code": 1}}
        plan = world.planned(wanted, world.change(busy, "n2", "decode-0", **state))
        assert list(world.starts(plan)) == ["n2/decode-0"]
        assert env(plan, "n2/decode-0")["CUDA_VISIBLE_DEVICES"] == gpus_now
        assert env(plan, "n2/decode-1")["CUDA_VISIBLE_DEVICES"] == "2,3"
    waiting = world.change(busy, "n2", "decode-0", phase="waiting", alive=False)
    assert world.planned(wanted, waiting).steps == ()


def test_an_up_that_was_cut_off_once_it_had_recorded_who_comes_goes_on() -> None:
    named = VLLM.replace("{node: n2, tp: 4}", "{node: n2, tp: 4, gpu_ids: [0, 1, 2, 3]}")
    always = "disagg: {mode: always}\n"
    before = world.topology(named)
    roles = named.replace(", {node: n2, tp: 4, gpu_ids: [0, 1, 2, 3]}]", "]").rstrip("\n")
    wanted = world.topology(f"{roles}\n  prefill: {{node: n2, tp: 4, gpu_ids: [0, 1, 2, 3]}}\n{always}")
    now = world.up(before, found(before))
    computes = Hardware(gpus(8, 0, 1, 2, 3), (("eth0", "10.0.0.2"),))
    now = Observed({**now.nodes, "n2": world.replaced(now.nodes["n2"], hardware=computes)})
    plan = world.planned(wanted, now)
    records = {step.node: json.loads(step.content) for step in plan.steps if isinstance(step, RecordTopology)}
    cut = {name: world.replaced(seen, manifest=records[name]) for name, seen in now.nodes.items()}
    again = world.planned(wanted, Observed(cut))
    assert (set(world.starts(again)), set(world.stops(again))) == (
        set(world.starts(plan)),
        set(world.stops(plan)),
    )


def test_without_nvidia_smi_the_topologys_word_counts_and_without_that_nothing() -> None:
    wanted = world.topology(VLLM)
    none = [Hardware(None, (("eth0", machine.address),)) for machine in wanted.machines.values()]
    detail, next_ = refusal(wanted, found(wanted, n1=none[0], n2=none[1]))
    assert detail == ("n2: decode-0 needs 4 GPUs, and the node has no nvidia-smi to find one with",)
    assert next_ == (
        "install the NVIDIA driver on n2, or say what it has: nodes.n2.gpus; "
        "for vLLM on the processor: engine.device: cpu"
    )
    plan = world.planned(wanted, found(wanted, n1=none[0]))
    assert plan.warnings[1:] == (
        "n1 has no nvidia-smi; that it has 8 GPUs is believed, as the topology says so",
    )


@pytest.mark.parametrize(
    ("addresses", "message", "way_out"),
    [
        (
            (("lo", "127.0.0.1"), ("eth0", "10.1.0.2"), ("docker0", "172.17.0.1")),
            "n2: none of its interfaces holds 10.0.0.2, the address that the other nodes dial, "
            "so vLLM cannot listen there",
            "name another one in nodes.n2.address: 10.1.0.2 (eth0)",
        ),
        (
            (("lo", "10.0.0.2"),),
            "n2: 10.0.0.2, the address that the other nodes dial, is on lo, the loopback: no other node reaches it",
            "name another one in nodes.n2.address",
        ),
        (
            (("br-5c1f0e2a", "10.0.0.2"), ("eth0", "10.1.0.2")),
            "n2: 10.0.0.2, the address that the other nodes dial, is on br-5c1f0e2a, a bridge inside this machine: "
            "no other node reaches it",
            "name another one in nodes.n2.address: 10.1.0.2 (eth0)",
        ),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(
    addresses: tuple[tuple[str, str], ...], message: str, way_out: str
) -> None:
    wanted = world.topology(VLLM)
    observed = found(wanted, n2=Hardware(gpus(8), addresses))
    assert refusal(wanted, observed) == ((message,), way_out)


def test_a_book_prefers_what_nobody_has_or_had() -> None:
    book = GpuBook(range(6), {"a": [0, 1], "gone": [2]}, frozenset({3}))
    assert book.chosen("b", 2) == (4, 5)
    assert book.chosen("a", 2) == (0, 1)
    assert book.chosen("c", 1) == (2,)
    assert book.chosen("d", 2) == (3,)
    assert book.short == {"d": (2, 1)}
    assert GpuBook(None).chosen("a", 3) == (0, 1, 2)


def test_gpus_in_words() -> None:
    assert [spelled(each) for each in ((3,), (0, 1, 2, 3), (0, 2, 4, 5))] == [
        "GPU 3",
        "GPUs 0-3",
        "GPUs 0,2,4-5",
    ]

"""The shipped topologies of large models start what the manual procedure for them would: engine values and all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dynoctl.plan.observed import Observed
from dynoctl.plan.steps import Plan
from dynoctl.topology.load import parse
from dynoctl.topology.model import Topology
from tests.dynoctl.plan import world

FOLDER = Path(__file__).parents[3] / "topologies"
LLAMA = "nvidia/Llama-3.1-405B-Instruct-FP8"
R1 = "deepseek-ai/DeepSeek-R1"


def shipped(name: str) -> Topology:
    return parse((FOLDER / f"{name}.yaml").read_text(), name)


def settings(plan: Plan) -> dict[str, dict[str, Any]]:
    """What each process of the runtime is told, by `node/unit`."""
    return {f"{spec.node}/{spec.name}": json.loads(spec.files[0][1]) for spec in plan.units if spec.files}


def engine(found: dict[str, Any]) -> tuple[Any, ...]:
    told = found["engine"]
    parallel = found["parallel"]
    return (
        told["kind"],
        told["block_size"],
        told["max_model_len"],
        told["args"],
        (parallel["tp"], parallel["executor"]),
    )


def test_405b_is_told_every_value() -> None:
    told = settings(world.planned(shipped("405b-3node")))
    assert list(told) == ["node1/frontend-0", "node1/decode-0", "node2/prefill-0", "node3/prefill-0"]
    args = {"quantization": "modelopt", "max-num-seqs": 16, "gpu-memory-utilization": 0.95}
    assert engine(told["node1/decode-0"]) == (
        *("vllm", 64, 8192, {**args, "enable-prefix-caching": True}),
        (8, "mp"),
    )
    for node in ("node2", "node3"):
        assert engine(told[f"{node}/prefill-0"]) == ("vllm", 64, 8192, args, (8, "mp"))
    front = told["node1/frontend-0"]
    assert front["roles"] == ["frontend", "processor", "router", "planner"]
    assert front["http"]["port"] == 8000
    assert front["routing"]["policy"] == "kv"
    for each in told.values():
        assert each["model"] == {"name": LLAMA, "path": LLAMA}
        assert {name: each["disagg"][name] for name in ("mode", *LENGTHS)} == {
            "mode": "conditional",
            "max_local_prefill_length": 10,
            "max_prefill_queue_size": 2,
        }


LENGTHS = ("max_local_prefill_length", "max_prefill_queue_size")


def test_one_more_decode_worker_leaves_the_others_alone() -> None:
    three, four = shipped("405b-3node"), shipped("405b-4node")
    observed = world.up(three)
    observed = Observed({**observed.nodes, "node4": world.empty("node4")})
    plan = world.planned(four, observed)
    assert (world.starts(plan), world.stops(plan)) == ({"node4/decode-0": "does not run yet"}, {})


def test_r1_spans_its_machines_with_a_ray_cluster_for_each_worker() -> None:
    told = settings(world.planned(shipped("r1-agg-2node")))
    args = {"enforce-eager": True, "max-num-batched-tokens": 16384, "enable-prefix-caching": True}
    assert engine(told["node1/decode-0"]) == ("vllm", 64, 16384, args, (16, "ray"))
    assert told["node1/frontend-0"]["roles"] == ["frontend", "processor", "planner"]  # workers take turns
    told = settings(world.planned(shipped("r1-disagg-4node")))
    assert engine(told["node1/decode-0"]) == ("vllm", 64, 16384, {}, (16, "ray"))
    assert engine(told["node3/prefill-0"]) == (
        *("vllm", 64, 16384, {"max-num-batched-tokens": 16384}),
        (16, "ray"),
    )
    assert told["node1/decode-0"]["disagg"]["mode"] == "always"
    heads = {name: each["head"] for name, each in told.items() if "/ray-" in name}
    assert [(name, head["host"]) for name, head in heads.items()] == [
        ("node1/ray-decode-0", "192.0.2.1"),
        ("node2/ray-decode-0", "192.0.2.1"),
        ("node3/ray-prefill-0", "192.0.2.3"),
        ("node4/ray-prefill-0", "192.0.2.3"),
    ]


def test_8b_is_told_every_value() -> None:
    agg = {"enforce-eager": True, "max-num-batched-tokens": 16384, "enable-prefix-caching": True}
    told = settings(world.planned(shipped("8b-agg-router")))
    for index in (0, 1):
        assert engine(told[f"local/decode-{index}"]) == ("vllm", 64, 16384, agg, (1, "mp"))
    told = settings(world.planned(shipped("8b-disagg-router")))
    dis = {"max-num-batched-tokens": 16384}
    assert engine(told["local/decode-0"])[3] == {**dis, "enable-prefix-caching": True}
    assert engine(told["local/prefill-0"])[3] == dis
    assert told["local/decode-0"]["disagg"]["mode"] == "conditional"

"""Workers larger than a node: their processes, how those find one another, and what is restarted as one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dyno_runtime import settings as runtime
from dynoctl.errors import Blocked
from dynoctl.plan.hardware import Gpu, Hardware
from dynoctl.plan.observed import Observed
from dynoctl.plan.steps import Phase, StartUnit, StopUnit, UnitSpec
from tests.dynoctl.plan.world import change, empty, planned, starts, stops, topology, up

HEAD = "name: c\nmodel: {id: m}\nengine: {kind: mock}\n"
NODES = """\
nodes:
  n1: {host: 10.0.0.1, env: {AT: one}}
  n2: {host: 10.0.0.2, env: {AT: two}}
  n3: {host: 10.0.0.3}
services: {etcd: n1, nats: n1}
"""


def written(decode: str) -> str:
    return f"{HEAD}{NODES}roles: {{frontend: {{node: n1}}, decode: {decode}}}\n"


MP = written("{span: [n1, n2], tp: 4, env: {BY: role}}")
RAY = written("[{span: [n1, n2], tp: 4, executor: ray}, {span: [n2, n3], tp: 2, executor: ray}]")


def specs(text: str) -> dict[str, UnitSpec]:
    return {f"{spec.node}/{spec.name}": spec for spec in planned(topology(text)).units}


def settings(spec: UnitSpec) -> runtime.ProcessSettings:
    ((_, content),) = spec.files
    return runtime.decode(content.encode())


def ray_settings(spec: UnitSpec) -> runtime.RayNode:
    ((_, content),) = spec.files
    return runtime.decode_ray(content.encode())


def started(phase: Phase) -> list[str]:
    return [f"{step.node}/{step.unit.name}" for step in phase.steps if isinstance(step, StartUnit)]


def test_a_span_is_a_head_and_a_rank_on_each_further_node() -> None:
    found = specs(MP)
    head, rank = found["n1/decode-0"], found["n2/decode-0-rank1"]
    assert list(found) == ["n1/etcd", "n1/nats", "n1/frontend-0", "n1/decode-0", "n2/decode-0-rank1"]
    assert (head.roles, rank.roles) == (("decode",), ("rank",))
    assert (head.worker, rank.worker) == ("n1/decode-0", "n1/decode-0")
    gather = runtime.Endpoint("10.0.0.1", 8300)
    assert settings(head).parallel == runtime.Parallel(tp=4, nodes=2, head=gather)
    lead = runtime.Endpoint("10.0.0.1", 7300)
    assert settings(rank).parallel == runtime.Parallel(tp=4, nodes=2, rank=1, head=gather, lead=lead)
    assert settings(rank).roles == ("decode",)
    assert (head.listens, head.ports) == (
        (7300, 7800),
        (7300, 7800, 8300),
    )  # nobody waits for where they gather
    assert settings(head).stream == lead


def test_each_process_has_the_environment_of_its_node_and_its_own_address_and_gpus() -> None:
    names = ("AT", "BY", "VLLM_HOST_IP", "CUDA_VISIBLE_DEVICES", "RAY_ADDRESS")

    def env(text: str) -> dict[str, list[str | None]]:
        found = specs(text.replace("kind: mock", "kind: vllm"))
        return {name: [spec.document["env"].get(key) for key in names] for name, spec in found.items()}

    mp, ray = env(MP), env(RAY)
    assert mp["n1/decode-0"] == ["one", "role", "10.0.0.1", "0,1", None]
    assert mp["n2/decode-0-rank1"] == ["two", "role", "10.0.0.2", "0,1", None]
    assert mp["n1/frontend-0"] == ["one", None, None, None, None]
    assert ray["n2/ray-decode-0"] == ["two", None, "10.0.0.2", "0,1", None]
    assert ray["n2/ray-decode-1"] == ["two", None, "10.0.0.2", "2", None]
    assert ray["n2/decode-1"] == ["two", None, "10.0.0.2", "2", "10.0.0.2:8401"]


def test_a_worker_on_ray_has_a_ray_cluster_of_its_own_on_the_nodes_of_its_span() -> None:
    found = specs(RAY)
    rays = {name: ray_settings(spec) for name, spec in found.items() if spec.roles == ("ray",)}
    told = {
        name: (one.is_head, f"{one.head.host}:{one.head.port}", one.nodes, one.gpus)
        for name, one in rays.items()
    }
    assert told == {
        "n1/ray-decode-0": (True, "10.0.0.1:8400", 2, 2),
        "n2/ray-decode-0": (False, "10.0.0.1:8400", 2, 2),
        "n2/ray-decode-1": (True, "10.0.0.2:8401", 2, 1),
        "n3/ray-decode-1": (False, "10.0.0.2:8401", 2, 1),
    }
    assert found["n2/ray-decode-0"].listens == (8500, 8600, 8700)
    assert found["n2/ray-decode-1"].listens == (8401, 8501, 8601, 8701)
    assert len({one.folder for one in rays.values()}) == 4
    assert found["n1/decode-0"].document["env"]["RAY_ADDRESS"] == "10.0.0.1:8400"
    assert found["n2/decode-1"].document["env"]["RAY_ADDRESS"] == "10.0.0.2:8401"
    head = runtime.Endpoint("10.0.0.2", 8401)
    assert settings(found["n2/decode-1"]).parallel == runtime.Parallel(
        tp=2, executor="ray", nodes=2, head=head
    )


def test_the_head_of_ray_comes_before_those_who_join_it_and_both_before_the_worker() -> None:
    plan = planned(topology(RAY))
    order = {phase.name: started(phase) for phase in plan.phases if started(phase)}
    assert list(order) == ["services", "ray", "ray-join", "roles"]
    assert order["ray"] == ["n1/ray-decode-0", "n2/ray-decode-1"]
    assert order["ray-join"] == ["n2/ray-decode-0", "n3/ray-decode-1"]
    assert order["roles"] == ["n1/frontend-0", "n1/decode-0", "n2/decode-1"]


def test_names_are_unique_on_every_node_however_spans_overlap() -> None:
    found = specs(written("[{span: [n1, n3], tp: 2}, {span: [n2, n3], tp: 2}, {node: n3}, {node: n1}]"))
    assert [name for name in found if "decode" in name] == [
        "n1/decode-0",
        "n3/decode-0-rank1",
        "n2/decode-1",
        "n3/decode-1-rank1",
        "n3/decode-2",
        "n1/decode-1",
    ]


def test_a_process_that_has_to_stop_takes_its_whole_worker_with_it() -> None:
    now = up(topology(MP))
    changed = planned(topology(MP.replace("AT: two", "AT: three")), now)
    why = "its environment variables changed"
    with_it = "a part of the same worker restarts, n2/decode-0-rank1"
    assert stops(changed) == starts(changed) == {"n1/decode-0": with_it, "n2/decode-0-rank1": why}


def test_a_process_that_failed_is_started_again_without_touching_a_head_that_waits_for_it() -> None:
    failed = change(up(topology(MP)), "n2", "decode-0-rank1", phase="failed", alive=False, exit={"code": 1})
    assert list(starts(planned(topology(MP), failed))) == ["n2/decode-0-rank1"]


def test_what_stands_on_ray_is_stopped_before_it() -> None:
    plan = planned(topology(RAY.replace("tp: 4", "tp: 8")), up(topology(RAY)))
    order = {
        phase.name: [f"{step.node}/{step.unit}" for step in phase.steps if isinstance(step, StopUnit)]
        for phase in plan.phases
    }
    names = list(order)
    assert names.index("stop") < names.index("stop-ray") < names.index("ray")
    assert (order["stop"], order["stop-ray"]) == (["n1/decode-0"], ["n1/ray-decode-0", "n2/ray-decode-0"])


def test_a_ray_cluster_that_leaves_the_file_is_stopped_with_its_session() -> None:
    wanted = topology(written("{node: n1}"))
    plan = planned(wanted, up(topology(RAY)))
    found = [(step.node, step.title) for step in plan.phase("stop-ray").steps if step.node == "n3"]
    assert found == [
        ("n3", "stop ray-decode-1 and forget it"),
        ("n3", "remove the session of ray-decode-1"),
    ]
    assert "n3" not in {step.node for step in plan.phase("stop").steps}


def test_a_root_that_is_too_long_for_the_sockets_of_ray_is_refused() -> None:
    root = "/mnt/shared/people/of/the/cluster/.dynoctl"
    seen = Observed({node: empty(node, root=root if node == "n3" else "/r") for node in ("n1", "n2", "n3")})
    with pytest.raises(Blocked) as found:
        planned(topology(RAY), seen)
    why = f"n3: {root} is too long a path for Ray, which keeps sockets in it; 28 bytes would do"
    assert (found.value.detail, found.value.next) == ((why,), "move it: nodes.n3.state_dir")
    planned(topology(MP), seen)


def test_data_parallel_replicas_on_other_nodes_are_handed_their_part_at_a_port_of_the_head() -> None:
    found = specs(written("[{span: [n1, n2], dp: 2, tp: 2}, {node: n1, dp: 2}]"))
    ports = {name: settings(spec).parallel.dp_port for name, spec in found.items() if "decode" in name}
    assert ports == {"n1/decode-0": 8350, "n2/decode-0-rank1": 8350, "n1/decode-1": None}


PREFILL = "prefill: {span: [n2, n3], dp: 4, tp: 1}"


@pytest.mark.parametrize(
    "decode",
    [
        "{span: [n1, n2], tp: 4}",
        "[{span: [n1, n2], tp: 4, executor: ray}, {span: [n2, n3], tp: 2, executor: ray}]",
        "[{span: [n1, n2], dp: 4, tp: 1}, {node: n1, dp: 2}]",
        "{span: [n1, n2], dp: 4, tp: 1, executor: ray}",
    ],
    ids=["mp", "ray", "dp", "dp on ray"],
)
def test_a_second_up_changes_nothing(decode: str) -> None:
    text = written(decode).replace("mock", "vllm").replace("roles: {", f"roles: {{{PREFILL}, ")
    wanted = topology(f"{text}disagg: {{mode: always}}\n")
    now = up(wanted)
    again = planned(wanted, now)
    assert again.steps == ()
    assert again.units == planned(wanted).units
    # Without the one that holds them, the same ports are a stranger's.
    assert now.nodes["n1"].own_ports == now.nodes["n1"].listening - {22}
    dead = change(now, "n1", "decode-0", phase="failed", alive=False, supervised=False)
    assert not {5600, 8300} & dead.nodes["n1"].own_ports


def test_what_vllm_hands_on_from_a_worker_on_ray_is_left_to_the_ray_of_each_node() -> None:
    text = (
        RAY.replace("mock", "vllm")
        .replace("AT: one", "NCCL_IB_HCA: mlx5_0")
        .replace("AT: two", "NCCL_IB_HCA: mlx5_9")
    )
    wanted = topology(text)
    hardware = {
        name: Hardware((), (("lo", "127.0.0.1"), (f"eth{number}", f"10.0.0.{number}")))
        for number, name in enumerate(wanted.machines, 1)
    }
    gpus = tuple(Gpu(index, f"GPU-{index}", "H100", 80 << 30, 0) for index in range(8))
    seen = {name: empty(name, hardware=replace(each, gpus=gpus)) for name, each in hardware.items()}
    found = {
        f"{spec.node}/{spec.name}": spec.document["env"] for spec in planned(wanted, Observed(seen)).units
    }
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "UCX_NET_DEVICES", "NCCL_IB_HCA")
    told = {name: [env.get(key) for key in names] for name, env in found.items() if "decode-0" in name}
    assert told == {
        "n1/ray-decode-0": ["eth1", "=eth1", "eth1", "mlx5_0"],
        "n2/ray-decode-0": ["eth2", "=eth2", "eth2", "mlx5_9"],
        "n1/decode-0": ["eth1", None, None, None],
    }


def test_replicas_on_ray_are_asked_about_their_kv_where_they_are() -> None:
    def told(decode: str, mode: str) -> dict[str, str | None]:
        prefill = "" if mode == "'off'" else f"{PREFILL}, "
        text = written(decode).replace("mock", "vllm").replace("roles: {", f"roles: {{{prefill}")
        found = specs(f"{text}disagg: {{mode: {mode}}}\n")
        name = "VLLM_NIXL_SIDE_CHANNEL_HOST"
        return {key: spec.document["env"].get(name) for key, spec in found.items() if "ray-" in key}

    replicas, one = "{span: [n1, n2], dp: 2, executor: ray}", "{span: [n1, n2], tp: 2, executor: ray}"
    assert told(replicas, "always") == {"n1/ray-decode-0": "10.0.0.1", "n2/ray-decode-0": "10.0.0.2"}
    assert (
        told(replicas, "'off'") == told(one, "always") == {"n1/ray-decode-0": None, "n2/ray-decode-0": None}
    )


def test_only_the_head_of_a_span_is_waited_for_at_its_kv_port() -> None:
    """Of all parts of a worker it is the head that vLLM's peers ask about its KV: nobody listens at a rank."""
    text = MP.replace("kind: mock", "kind: vllm, device: cpu").replace(
        "decode: {span", "decode: {node: n1}, prefill: {span"
    )
    found = specs(f"{text}disagg: {{mode: always}}\n")
    head, rank = found["n1/prefill-0"], found["n2/prefill-0-rank1"]
    for spec, listens in ((head, True), (rank, False)):
        transfer = settings(spec).transfer
        assert transfer is not None
        assert (transfer.side_channel.port in spec.listens) == listens
        assert transfer.side_channel.port in spec.ports

"""The views of a topology: one shape, whatever the file's shorthand was."""

from __future__ import annotations

import msgspec

from dynoctl.topology.engine import Engine, EngineOverride, Model
from dynoctl.topology.load import parse
from dynoctl.topology.machines import Node, SshOverride
from dynoctl.topology.model import Topology
from dynoctl.topology.roles import Frontend, Roles, Worker

HEAD = "name: x\nmodel: {id: m}\nengine: {kind: hello, block_size: 16, args: {max-num-seqs: 4, load_s: 1}}\n"
NODES = """
nodes:
  a: {host: 10.0.0.1, gpus: 8, ssh: {port: 2222}, env: {ON: a, BOTH: node}}
  b: {host: gpu-b.example, address: 10.0.0.2, python: ~/venv/bin/python, state_dir: /srv/dyno}
env: {BOTH: top, TOP: t}
ssh: {user: ubuntu, connect_timeout_s: 3}
services: {etcd: a, nats: {node: b, port: 5000}}
"""


def test_placements_in_order_with_indexes_ports_and_paths() -> None:
    topology = parse(
        HEAD
        + NODES
        + """
roles:
  decode: [{nodes: [a, b], replicas: 2, stream_port: 9000}, {node: a}]
  frontend: {nodes: [a, b], port: 80, replicas: 2}
""",
        "t",
    )
    placed = [
        (one.role, one.node, one.index, one.port, one.stream_port, one.path)
        for one in topology.placements
        if one.role in ("frontend", "decode")
    ]
    assert placed == [
        ("frontend", "a", 0, 80, None, ("roles", "frontend", 0)),
        ("frontend", "a", 1, 81, None, ("roles", "frontend", 0)),
        ("frontend", "b", 0, 80, None, ("roles", "frontend", 0)),
        ("frontend", "b", 1, 81, None, ("roles", "frontend", 0)),
        ("decode", "a", 0, None, 9000, ("roles", "decode", 0)),
        ("decode", "a", 1, None, 9001, ("roles", "decode", 0)),
        ("decode", "b", 0, None, 9000, ("roles", "decode", 0)),
        ("decode", "b", 1, None, 9001, ("roles", "decode", 0)),
        ("decode", "a", 2, None, None, ("roles", "decode", 1)),
    ]


def test_a_processor_or_router_that_the_file_does_not_have_is_not_there() -> None:
    topology = parse(HEAD + NODES + "roles: {frontend: {nodes: [a, b], replicas: 2}, decode: {node: a}}", "t")
    assert [one.role for one in topology.placements] == ["frontend"] * 4 + ["decode"]


def test_fused_roles_share_a_process_by_node_and_index() -> None:
    text = (
        HEAD
        + NODES
        + "roles: {frontend: {node: a, replicas: 2}, processor: {node: a}, router: {node: b}, decode: {node: a}}"
    )
    processes = [(one.node, one.name, one.roles) for one in parse(text, "t").processes]
    assert processes == [
        ("a", "frontend-0", ("frontend", "processor")),
        ("a", "frontend-1", ("frontend",)),
        ("b", "router-0", ("router",)),
        ("a", "decode-0", ("decode",)),
    ]


def test_without_fusing_each_role_is_a_process() -> None:
    text = HEAD + "roles: {fused: false, frontend: {}, processor: {}, router: {}, decode: {}}"
    names = [one.name for one in parse(text, "t").processes]
    assert names == ["frontend-0", "processor-0", "router-0", "decode-0"]


def test_machines_have_every_default_filled_in() -> None:
    machines = parse(HEAD + NODES + "roles: {frontend: {node: a}, decode: {node: b}}", "t").machines
    a, b = machines["a"], machines["b"]
    assert (a.address, a.gpus, a.python, a.state_dir, a.is_local) == (
        "10.0.0.1",
        8,
        None,
        "~/.dynoctl",
        False,
    )
    assert (a.ssh.user, a.ssh.port, a.ssh.connect_timeout_s) == ("ubuntu", 2222, 3.0)
    assert a.env.reveal() == {"BOTH": "node", "TOP": "t", "ON": "a"}
    assert (b.host, b.address, b.python, b.state_dir) == (
        "gpu-b.example",
        "10.0.0.2",
        "~/venv/bin/python",
        "/srv/dyno",
    )


def test_services_by_node_by_map_and_by_url() -> None:
    topology = parse(HEAD + NODES + "roles: {frontend: {node: a}, decode: {node: b}}", "t")
    assert (topology.etcd.node, topology.etcd.port) == ("a", None)
    assert (topology.nats.node, topology.nats.port) == ("b", 5000)
    urls = "services: {etcd: {url: ['http://1.2.3.4:1', 'http://1.2.3.4:2']}, nats: {url: 'tls://1.2.3.4'}}\n"
    topology = parse(HEAD + urls + "roles: {frontend: {}, decode: {}}", "t")
    assert (topology.etcd.node, len(topology.etcd.urls)) == (None, 2)
    assert (topology.nats.node, [url.reveal() for url in topology.nats.urls]) == (None, ["tls://1.2.3.4"])


def test_an_engine_of_a_role_is_laid_over_the_default_key_by_key() -> None:
    text = HEAD + "roles: {frontend: {}, decode: {engine: {args: {max_num_seqs: 8, hostname: h}}}}"
    (decode,) = (one for one in parse(text, "t").placements if one.role == "decode")
    assert decode.engine == Engine(
        kind="hello", block_size=16, args={"load_s": 1, "max_num_seqs": 8, "hostname": "h"}
    )
    assert decode.model == Model(id="m")


def vllm(worker: Worker) -> Topology:
    """One vLLM worker of a shape that files may not have yet; the views know it already."""
    nodes = {"a": Node(host="10.0.0.1", gpus=8), "b": Node(host="10.0.0.2", gpus=8)}
    roles = Roles(frontend=(Frontend(node="a"),), decode=(worker,))
    return Topology(name="x", model=Model(id="m"), engine=Engine(kind="vllm"), roles=roles, nodes=nodes)


def test_gpus_of_a_worker_are_shared_by_the_nodes_of_its_span() -> None:
    (worker,) = (one for one in vllm(Worker(span=("a", "b"), tp=8, pp=2)).placements if one.role == "decode")
    assert (worker.nodes, worker.node, worker.gpus_per_node) == (("a", "b"), "a", 8)
    (worker,) = (one for one in vllm(Worker(node="a", tp=4)).placements if one.role == "decode")
    assert worker.gpus_per_node == 4


def test_only_vllm_takes_gpus() -> None:
    worker = Worker(node="a", tp=4, engine=EngineOverride(kind="mock"))
    assert [one.gpus_per_node for one in vllm(worker).placements] == [0, 0]


def test_a_topology_is_frozen_and_its_views_are_made_once() -> None:
    topology = vllm(Worker(node="a"))
    assert topology.placements is topology.placements
    changed = msgspec.structs.replace(topology, nodes={"c": Node(ssh=SshOverride(port=1))})
    assert list(changed.machines) == ["c"]
    assert list(topology.machines) == ["a", "b"]


def test_a_role_of_another_engine_does_not_get_the_arguments_of_the_first() -> None:
    whole = Engine(kind="vllm", device="cpu", block_size=32, args={"enforce-eager": True})
    other = whole.overridden(EngineOverride(kind="mock", args={"speedup": 2.0}))
    assert other == Engine(kind="mock", block_size=32, args={"speedup": 2.0})
    same = whole.overridden(EngineOverride(kind="vllm", args={"enforce_eager": False, "max-num-seqs": 4}))
    assert same == Engine(
        kind="vllm", device="cpu", block_size=32, args={"enforce_eager": False, "max-num-seqs": 4}
    )

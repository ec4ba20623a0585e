"""How an engine is spread, in vLLM's arguments: nothing on one node, the same on every rank but its number."""

from __future__ import annotations

from dyno_runtime.engine.vllm.spread import spread_args
from dyno_runtime.settings import Endpoint, Parallel

HEAD = Endpoint("10.0.0.1", 8300)


def test_an_engine_of_one_node_is_asked_for_nothing() -> None:
    assert spread_args(Parallel(tp=8, pp=2, dp=2)) == {}


def test_a_rank_says_where_its_head_is_and_which_it_is() -> None:
    args = {"distributed_executor_backend": "mp", "nnodes": 2, "master_addr": "10.0.0.1", "master_port": 8300}
    for rank in (0, 1):
        one = Parallel(tp=16, nodes=2, rank=rank, head=HEAD)
        assert spread_args(one) == {**args, "node_rank": rank}


def test_replicas_on_other_nodes_have_a_port_of_the_head_besides() -> None:
    args = spread_args(Parallel(tp=8, dp=2, nodes=2, head=HEAD, dp_port=8350))
    assert args["data_parallel_rpc_port"] == 8350
    assert args["nnodes"] == 2


def test_on_ray_it_is_ray_that_places_the_workers_or_the_replicas() -> None:
    assert spread_args(Parallel(tp=16, executor="ray", nodes=2, head=HEAD)) == {
        "distributed_executor_backend": "ray"
    }
    assert spread_args(Parallel(tp=4, dp=4, executor="ray", nodes=2, head=HEAD)) == {
        "distributed_executor_backend": "ray",
        "data_parallel_backend": "ray",
        "data_parallel_size_local": 2,
    }

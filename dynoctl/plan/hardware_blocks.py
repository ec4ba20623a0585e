"""GPUs and networks that were seen on the nodes and make a plan impossible for their vLLM workers.

In: a topology and its sites, GPUs allotted. Out: obstacles, each a sentence with its node, and what to do about it;
and remarks on what could not be checked.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dynoctl.plan.blocks import Obstacle
from dynoctl.plan.gpus import spelled
from dynoctl.plan.hardware import Hardware
from dynoctl.plan.site import Site
from dynoctl.plan.workers import gpus_of, is_vllm, use_of
from dynoctl.topology.model import Topology
from dynoctl.topology.placement import Placement

# Bridges that container runtimes and hypervisors make: their addresses exist on every machine that has one.
BRIDGES = ("docker*", "br-*", "virbr*", "cni*", "podman*", "lxcbr*", "lxdbr*", "flannel*")


@dataclass(frozen=True, slots=True)
class _Share:
    """A worker's part on one of its nodes."""

    placement: Placement
    site: Site

    @property
    def name(self) -> str:
        return use_of(self.placement, self.site.node)


def hardware_obstacles(topology: Topology, sites: Mapping[str, Site]) -> Iterator[Obstacle]:
    """Everything in the way, node by node; a node that was not asked has nothing in the way."""
    several = len(sites) > 1
    for node, site in sites.items():
        hardware = site.seen.hardware if site.seen else None
        mine = [
            _Share(placement, site)
            for placement in topology.placements
            if is_vllm(placement) and node in placement.nodes
        ]
        if hardware is None or not mine:
            continue
        yield from _gpus(mine, hardware)
        if several:
            yield from _network(site, hardware)


def hardware_remarks(topology: Topology, sites: Mapping[str, Site]) -> Iterator[str]:
    """What is believed because it could not be checked."""
    for site in sites.values():
        hardware = site.seen.hardware if site.seen else None
        if hardware is not None and hardware.gpus is None and site.gpus.given and site.gpus_declared:
            yield (
                f"{site.node} has no nvidia-smi; that it has {_count(site.gpus_declared)} is believed, "
                "as the topology says so"
            )


def _gpus(shares: list[_Share], hardware: Hardware) -> Iterator[Obstacle]:
    wanting = [share for share in shares if share.placement.gpus_per_node]
    if not wanting:
        return
    site = wanting[0].site
    found, declared = hardware.gpus, site.gpus_declared
    if found is None and declared is None:
        for share in wanting:
            yield Obstacle(
                f"{site.node}: {share.name} needs {_count(share.placement.gpus_per_node)}, and the node has no "
                "nvidia-smi to find one with",
                f"install the NVIDIA driver on {site.node}, or say what it has: nodes.{site.node}.gpus; "
                "for vLLM on the processor: engine.device: cpu",
            )
        return
    if found is not None and declared is not None and declared > len(found):
        yield Obstacle(
            f"{site.node}: the topology says that it has {_count(declared)}, and nvidia-smi finds {len(found)}",
            f"{site.login} nvidia-smi".strip() + f", and mend nodes.{site.node}.gpus",
        )
        return
    for use, (need, got) in site.gpus.short.items():
        yield Obstacle(
            f"{site.node}: {use} needs {_count(need)}, and only {got} of the node's are left",
            f"give it fewer (tp), or move it to another node; {site.node} has "
            f"{_count(len(site.gpus.pool or ()))}",
        )
    for share in wanting:
        yield from _each_gpu(share, hardware)


def _each_gpu(share: _Share, hardware: Hardware) -> Iterator[Obstacle]:
    """Each GPU that the worker got is there, and nobody else computes on it."""
    site = share.site
    if hardware.gpus is None:
        return
    by_index = {gpu.index: gpu for gpu in hardware.gpus}
    mine = gpus_of(share.placement, site.node, site)
    if missing := [gpu for gpu in mine if gpu not in by_index]:
        yield Obstacle(
            f"{site.node}: {share.name} is to take {spelled(missing)}, and nvidia-smi finds "
            f"{spelled(sorted(by_index)) if by_index else 'no GPU'}",
            "mend gpu_ids of the role in the topology",
        )
    if busy := [gpu for gpu in mine if gpu in site.gpus.busy]:
        used = ", ".join(
            f"{by_index[gpu].used_bytes / 1e9:.1f} of {by_index[gpu].total_bytes / 1e9:.1f} GB"
            for gpu in busy[:3]
        )
        more = "" if len(busy) <= 3 else ", …"
        verb = "is" if len(busy) == 1 else "are"
        yield Obstacle(
            f"{site.node}: {spelled(busy)}, which {share.name} is to take, {verb} in use by somebody else "
            f"({used}{more})",
            f"{site.login} nvidia-smi".strip() + " shows by whom",
        )


def _network(site: Site, hardware: Hardware) -> Iterator[Obstacle]:
    """The address that peers dial is on an interface that leads to them."""
    interface = site.network.interface
    usable = [f"{held} ({name})" for name, held in hardware.addresses if not _stays_here(name, held)]
    way_out = f"name another one in nodes.{site.node}.address" + (f": {', '.join(usable)}" if usable else "")
    if interface is None:
        yield Obstacle(
            f"{site.node}: none of its interfaces holds {site.address}, the address that the other nodes dial, "
            "so vLLM cannot listen there",
            way_out,
        )
    elif _stays_here(interface, site.address):
        what = "the loopback" if interface == "lo" else "a bridge inside this machine"
        yield Obstacle(
            f"{site.node}: {site.address}, the address that the other nodes dial, is on {interface}, {what}: "
            "no other node reaches it",
            way_out,
        )


def _stays_here(interface: str, address: str) -> bool:
    loopback = interface == "lo" or address.startswith(("127.", "fe80:")) or address == "::1"
    return loopback or any(fnmatch.fnmatchcase(interface, bridge) for bridge in BRIDGES)


def _count(gpus: int) -> str:
    return "1 GPU" if gpus == 1 else f"{gpus} GPUs"

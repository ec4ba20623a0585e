"""Rules on GPUs: shared evenly over a span, booked once, and no more than a node has.

In: a topology. Out: findings. Where the file does not say how many GPUs a node has, the node is asked later.
"""

from __future__ import annotations

from collections.abc import Iterator

from dynoctl.topology.document import Path
from dynoctl.topology.finding import Finding
from dynoctl.topology.model import Topology
from dynoctl.topology.placement import Placement
from dynoctl.topology.rules.places import workers

VISIBLE = "CUDA_VISIBLE_DEVICES"


def shared_evenly(topology: Topology) -> Iterator[Finding]:
    """Every node of a span carries the same number of ranks."""
    for path, worker in workers(topology):
        if worker.span and worker.gpus % len(worker.span):
            sizes = " × ".join(f"{name} {getattr(worker, name)}" for name in ("tp", "pp", "dp"))
            message = f"{sizes} is {worker.gpus} GPUs, which {len(worker.span)} nodes cannot share evenly"
            yield Finding((*path, "tp"), message)


def whole_replicas(topology: Topology) -> Iterator[Finding]:
    """Data parallel replicas lie whole on a node, or each on nodes of its own; on Ray only the former."""
    for path, worker in workers(topology):
        if not worker.span or worker.dp == 1 or worker.gpus % len(worker.span):
            continue
        share, replica = worker.gpus // len(worker.span), worker.tp * worker.pp
        sizes = (
            f"each of the {worker.dp} replicas is {_gpus(replica)}, and each node has {_gpus(share)} for them"
        )
        if share % replica and replica % share:
            hint = "choose tp, pp and dp so that replicas lie whole on a node, or each on nodes of its own"
            yield Finding((*path, "dp"), sizes, hint)
        elif share < replica and worker.executor == "ray":
            yield Finding((*path, "dp"), f"{sizes}; on Ray a replica lies on one node", "use `executor: mp`")


def within_the_node(topology: Topology) -> Iterator[Finding]:
    """Workers on a node use no more GPUs than it has."""
    booked: dict[str, int] = {}
    for placement in topology.placements:
        need = placement.gpus_per_node
        for name in placement.nodes:
            machine = topology.machines.get(name)
            if not need or machine is None or machine.gpus is None:
                continue
            left = machine.gpus - booked.get(name, 0)
            booked[name] = booked.get(name, 0) + need
            if left < need:
                who = f"{placement.role}-{placement.index}"
                free = f"which has {_gpus(machine.gpus)}, {max(left, 0)} of them free"
                message = f"{who} needs {_gpus(need)} on {name}, {free}"
                yield Finding((*placement.path, "tp"), message)


def named(topology: Topology) -> Iterator[Finding]:
    """GPUs that a role names are there, are as many as it needs, and are its own."""
    for path, worker in workers(topology):
        where = (*path, "gpu_ids")
        units = [placement for placement in topology.placements if placement.path == path]
        if not worker.gpu_ids or not units:
            continue
        need = units[0].gpus_per_node * worker.replicas
        if not need:
            kind = units[0].engine.kind if units[0].engine else ""
            yield Finding(where, f"the engine '{kind}' uses no GPU", at_key=True)
        elif len(set(worker.gpu_ids)) != need:
            yield Finding(
                where, f"names {len(set(worker.gpu_ids))} of the {need} GPUs that are needed on each node"
            )
    yield from _taken(topology)


def chosen_by_name(topology: Topology) -> Iterator[Finding]:
    """Which GPUs a worker sees is said in one way: by `gpu_ids`, or by nothing."""
    said: dict[Path, Finding] = {}
    for placement in topology.placements:
        for name in placement.nodes if placement.gpus_per_node else ():
            node = topology.nodes.get(name)
            if VISIBLE in placement.spec.env:
                where: Path = (*placement.path, "env", VISIBLE)
            elif node is not None and VISIBLE in node.env:
                where = ("nodes", name, "env", VISIBLE)
            elif VISIBLE in topology.env:
                where = ("env", VISIBLE)
            else:
                continue
            message = "is set by dynoctl, from the GPUs that a worker gets"
            said[where] = Finding(where, message, "name them in the role: `gpu_ids: [0, 1]`", at_key=True)
    yield from said.values()


def one_build(topology: Topology) -> Iterator[Finding]:
    """vLLM for GPUs and vLLM for the processor are two builds of one package, and a node has one environment."""
    first: dict[str, Placement] = {}
    for placement in topology.placements:
        if placement.engine is None or placement.engine.kind != "vllm":
            continue
        for name in placement.nodes:
            other = first.setdefault(name, placement)
            if other.engine is not None and other.engine.device != placement.engine.device:
                message = (
                    f"{placement.role}-{placement.index} is on '{placement.engine.device}', and "
                    f"{other.role}-{other.index} of {name} is on '{other.engine.device}'; a node has one of them"
                )
                yield Finding(
                    (*placement.path, "engine", "device"), message, "use another node for one of them"
                )


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _taken(topology: Topology) -> Iterator[Finding]:
    owners: dict[tuple[str, int], Placement] = {}
    for placement in topology.placements:
        worker = placement.worker
        if worker is None or not placement.gpus_per_node:
            continue
        for name in placement.nodes:
            machine = topology.machines.get(name)
            for index, gpu in enumerate(worker.gpu_ids):
                where = (*placement.path, "gpu_ids", index)
                if machine is not None and machine.gpus is not None and gpu >= machine.gpus:
                    yield Finding(where, f"{name} has {_gpus(machine.gpus)}, so there is no GPU {gpu}")
                first = owners.setdefault((name, gpu), placement)
                if first.path != placement.path:
                    yield Finding(where, f"GPU {gpu} of {name} belongs to {first.role}-{first.index}")

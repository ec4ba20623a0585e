"""A topology and one of its processes → the settings file of that process.

The only file of dynoctl that imports the runtime, and of the runtime only its settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dyno_runtime import settings as runtime
from dynoctl.plan.ports import SIDE_CHANNEL_BASE
from dynoctl.plan.site import Site
from dynoctl.plan.spans import parallel
from dynoctl.plan.workers import is_vllm
from dynoctl.topology.engine import Engine
from dynoctl.topology.model import Topology
from dynoctl.topology.placement import Placement, Process
from dynoctl.topology.roles import Frontend, Planner, Router, Worker
from dynoctl.topology.secret import reveal


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP ports of one process: for peers, for clients, and for metrics where these are not at the last one."""

    stream: int
    http: int | None = None
    metrics: int | None = None


def services(topology: Topology, sites: Mapping[str, Site]) -> runtime.Services:
    """Where etcd and NATS are for every process of the cluster."""
    etcd, nats = topology.etcd, topology.nats
    if etcd.node is not None:
        site = sites[etcd.node]
        etcd_urls: tuple[str, ...] = (f"http://{site.address}:{site.ports.given['etcd']}",)
    else:
        etcd_urls = tuple(reveal(url) for url in etcd.urls)
    if nats.node is not None:
        site = sites[nats.node]
        nats_url = f"nats://{site.address}:{site.ports.given['nats']}"
    else:
        nats_url = reveal(nats.urls[0])
    return runtime.Services(etcd=etcd_urls, nats=nats_url)


def process_settings(
    topology: Topology,
    process: Process,
    sites: Mapping[str, Site],
    ports: Ports,
) -> runtime.ProcessSettings:
    """What this process is told."""
    site = sites[process.node]
    return runtime.ProcessSettings(
        cluster=topology.name,
        node=process.node,
        unit=process.name,
        roles=process.roles,
        services=services(topology, sites),
        stream=runtime.Endpoint(host=site.address, port=ports.stream),
        http=None if ports.http is None else runtime.Endpoint(host=_listen_host(site), port=ports.http),
        metrics=None if ports.metrics is None else runtime.Endpoint(host=site.address, port=ports.metrics),
        model=_model(topology, process),
        engine=_engine(topology, process),
        health_path=f"{site.unit_folder(process.name)}/health.json",
        http_workers=_http_workers(process),
        routing=_routing(topology, process),
        planner=_planner(topology, process),
        disagg=runtime.Disagg(
            mode=topology.disagg.mode,
            max_local_prefill_length=topology.disagg.max_local_prefill_length,
            max_prefill_queue_size=topology.disagg.max_prefill_queue_size,
            prefill_timeout_s=topology.disagg.prefill_timeout_s,
        ),
        parallel=parallel(process, sites),
        transfer=_transfer(topology, process, site),
    )


def render(settings: runtime.ProcessSettings | runtime.RayNode) -> str:
    """The file's text."""
    return runtime.encode(settings).decode()


def _listen_host(site: Site) -> str:
    """Clients come from anywhere, except where the whole cluster is on this machine."""
    return site.address if site.address.startswith("127.") else "0.0.0.0"


def _worker(process: Process) -> Placement | None:
    return next((placement for placement in process.placements if placement.engine is not None), None)


def _model(topology: Topology, process: Process) -> runtime.Model:
    worker = _worker(process)
    model = worker.model if worker is not None and worker.model is not None else topology.model
    is_files = engine_of(topology, process).kind == "vllm" or model.id.startswith(("/", "~/"))
    return runtime.Model(name=model.name, path=model.id if is_files else None)


def engine_of(topology: Topology, process: Process) -> Engine:
    """The engine of this process's worker; of a process without one, that of the file."""
    worker = _worker(process)
    return worker.engine if worker is not None and worker.engine is not None else topology.engine


def _engine(topology: Topology, process: Process) -> runtime.Engine:
    engine = engine_of(topology, process)
    return runtime.Engine(
        kind=engine.kind,
        device=engine.device,
        block_size=engine.block_size,
        max_model_len=engine.max_model_len,
        args=engine.args,
    )


def _transfer(topology: Topology, process: Process, site: Site) -> runtime.Transfer | None:
    """How this process's worker exchanges KV; None where it never does."""
    worker = _worker(process)
    if topology.disagg.mode == "off" or worker is None or not is_vllm(worker):
        return None
    # One port for each data parallel rank, which vLLM counts up from the first.
    count = worker.worker.dp if worker.worker is not None else 1
    ports = site.ports.row(f"{process.name}.kv", SIDE_CHANNEL_BASE, count)
    return runtime.Transfer(
        connector=topology.disagg.connector,
        side_channel=runtime.Endpoint(host=site.address, port=ports[0]),
        lease_s=runtime.lease_for(topology.disagg.prefill_timeout_s),
    )


def shares_http(process: Process) -> bool:
    """Whether other processes listen at its port for HTTP, too."""
    return _http_workers(process) > 1


def _http_workers(process: Process) -> int:
    return next((one.spec.workers for one in process.placements if isinstance(one.spec, Frontend)), 1)


def _routing(topology: Topology, process: Process) -> runtime.Routing:
    policy: runtime.PolicyName = "similar" if topology.engine.kind == "hello" else "kv"
    for placement in process.placements:
        if isinstance(placement.spec, Router):
            spec = placement.spec
            return runtime.Routing(spec.policy or policy, spec.max_waiting, spec.max_usage)
    return runtime.Routing(policy)


def _planner(topology: Topology, process: Process) -> runtime.Planner:
    """The defaults where no planner is in this process."""
    spec = next((one.spec for one in process.placements if isinstance(one.spec, Planner)), None)
    if spec is None:
        return runtime.Planner()
    return runtime.Planner(
        interval_s=spec.interval_s,
        pull_s=spec.pull_s,
        max_gpus=spec.max_gpus,
        min_workers=spec.min_workers,
        decode_gpus=_gpus(topology.roles.decode),
        prefill_gpus=_gpus(topology.roles.prefill),
        kv_up=spec.kv_up,
        kv_down=spec.kv_down,
        queue_up=spec.queue_up,
        queue_down=spec.queue_down,
    )


def _gpus(workers: tuple[Worker, ...]) -> int:
    """What one more worker would take: as much as the largest one of its role."""
    return max((worker.gpus for worker in workers), default=1)

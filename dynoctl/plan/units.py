"""Every process of the cluster as it is to be: argv, environment, files, ports.

In: a topology and its sites. Out: one `UnitSpec` a process, services first. The order is the order of the file, and
the same topology on the same nodes gives the same digests, whoever plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynoctl.errors import Blocked
from dynoctl.plan.digest import digest_of
from dynoctl.plan.ports import METRICS_BASE, STREAM_BASE
from dynoctl.plan.settings import Ports, process_settings, render, shares_http
from dynoctl.plan.site import Site
from dynoctl.plan.spans import ray_env, ray_ports, ray_settings, replica_env, worker_of
from dynoctl.plan.steps import Artifact, UnitSpec
from dynoctl.plan.workers import allot_gpus, engine_env, gpus_of
from dynoctl.topology.model import Topology
from dynoctl.topology.placement import Process
from dynoctl.topology.secret import Secret, Url, reveal

RESTART = {"max": 5, "within_s": 300.0, "first_wait_s": 0.5, "longest_wait_s": 30.0}
LOG = {"max_bytes": 10_000_000, "keep": 3}
SERVICE_GRACE_S = 10.0
ETCD_PORT, NATS_PORT = 2379, 4222  # where nobody says otherwise, the first free port from here on
ROLE_GRACE_S = 15.0  # longer than the runtime's own drain
# vLLM copies these from the process of a worker on Ray over what the Ray of each node has, whose network may have
# other names; the process itself moves nothing over them.
HANDED_ON = ("NCCL_", "UCX_")


def units(topology: Topology, sites: Mapping[str, Site]) -> tuple[UnitSpec, ...]:
    """All processes of the cluster, etcd and NATS first.

    Raises:
        Blocked: a node has no etcd or NATS to run, or no port is free.
    """
    _name_ports(topology, sites)
    allot_gpus(topology, sites)
    found: list[UnitSpec] = []
    if topology.etcd.node is not None:
        found.append(_etcd(topology, sites[topology.etcd.node]))
    if topology.nats.node is not None:
        found.append(_nats(topology, sites[topology.nats.node]))
    for process in topology.processes:
        make = _ray_unit if process.ray else _role_unit
        found.append(make(topology, process, sites))
    return tuple(found)


def _name_ports(topology: Topology, sites: Mapping[str, Site]) -> None:
    """Ports that the file names come first, so that no chosen port takes one of them."""
    for placement in topology.placements:
        book = sites[placement.node].ports
        if placement.port is not None:
            book.named(f"{placement.role}-{placement.index}.http", placement.port)
        if placement.stream_port is not None:
            book.named(f"{placement.role}-{placement.index}.stream", placement.stream_port)
    for name, service in (("etcd", topology.services.etcd), ("nats", topology.services.nats)):
        node = getattr(topology, name).node
        if node is not None and service.port is not None:
            sites[node].ports.named(name, service.port)


def _finish(site: Site, name: str, roles: tuple[str, ...], document: dict[str, Any], **more: Any) -> UnitSpec:
    """The unit with its digest, which is over everything but the digest."""
    whole = {
        "unit": name,
        "cluster": site.cluster,
        "node": site.node,
        **document,
        "restart": RESTART,
        "log": LOG,
    }
    digest = digest_of({"unit": whole, "files": more.get("files", ())})
    given = [port for use, port in site.ports.given.items() if use.startswith(f"{name}.")]
    unproved = tuple(port for port in given if port not in document["listens"])
    # Who supervises is no part of the digest: a unit that runs is not restarted because systemd has come or gone.
    whole["backend"] = "systemd" if site.seen is not None and site.seen.user_manager else "agent"
    folder = site.unit_folder(name)
    return UnitSpec(name, site.node, roles, folder, whole, digest=digest, more_ports=unproved, **more)


def _program(site: Site, name: str, given: str | None, artifact: Artifact | None, hint: str) -> str:
    """Where a service's program is on the node.

    Raises:
        Blocked: there is none, and none to send.
    """
    if given:
        return site.seen.absolute(given) if site.seen else given
    if had := _recorded_program(site, name):
        return had
    if name == "etcd" and site.seen is not None and (found := site.seen.tools.get("etcd")):
        return found
    if artifact is not None:
        return f"{site.root}/{artifact.place}"
    if site.seen is not None and (found := site.seen.tools.get(name)):
        return found
    if site.seen is None:
        return name
    raise Blocked(f"{site.node}: there is no {name} on the node, and none here to send", next=hint)


def _recorded_program(site: Site, name: str) -> str | None:
    """The program that this service ran with, where it is still there: data never meets another version."""
    if site.seen is None or site.seen.manifest is None:
        return None
    unit = "nats" if name == "nats-server" else name
    had = site.seen.manifest.get("units", {}).get(unit, {}).get("parts", {}).get("its program")
    there = had in site.seen.tools.values() or site.has(str(had).removeprefix(f"{site.root}/"))
    return str(had) if had and there else None


def _etcd(topology: Topology, site: Site) -> UnitSpec:
    service = topology.etcd
    program = _program(
        site,
        "etcd",
        service.binary,
        site.kit.etcd,
        "pip install 'dynoctl[services]', or apt install etcd-server there",
    )
    port = site.ports.given.get("etcd") or site.ports.chosen("etcd", ETCD_PORT)
    peer_port = site.ports.chosen("etcd.peer", ETCD_PORT + 1)
    clients, peers = f"http://{site.address}:{port}", f"http://127.0.0.1:{peer_port}"
    argv = [
        program,
        *("--name", "etcd"),
        *("--data-dir", f"{site.base}/data/etcd"),
        *("--listen-client-urls", clients),
        *("--advertise-client-urls", clients),
        *("--listen-peer-urls", peers),
        *("--initial-advertise-peer-urls", peers),
        *("--initial-cluster", f"etcd={peers}"),
        # It has no peers to hear from, so its election needs not take the second that a network would.
        *("--heartbeat-interval", "50"),
        *("--election-timeout", "250"),
        *("--auto-compaction-retention", "1"),
        *("--logger", "zap"),
        *("--log-level", "warn"),
    ]
    document = {"argv": argv, "env": {}, "listens": [port, peer_port], "stop_grace_s": SERVICE_GRACE_S}
    return _finish(site, "etcd", ("etcd",), document)


def _nats(topology: Topology, site: Site) -> UnitSpec:
    service = topology.nats
    program = _program(
        site,
        "nats-server",
        service.binary,
        site.kit.nats,
        "pip install 'dynoctl[services]', or put it on the node's PATH",
    )
    port = site.ports.given.get("nats") or site.ports.chosen("nats", NATS_PORT)
    argv = [
        program,
        *("--addr", site.address),
        *("--port", str(port)),
        "--jetstream",
        *("--store_dir", f"{site.base}/data/nats"),
    ]
    document = {"argv": argv, "env": {}, "listens": [port], "stop_grace_s": SERVICE_GRACE_S}
    return _finish(site, "nats", ("nats",), document)


def _role_unit(topology: Topology, process: Process, sites: Mapping[str, Site]) -> UnitSpec:
    site = sites[process.node]
    stream = _stream_port(process, site)
    http = next((placement.port for placement in process.placements if placement.port is not None), None)
    metrics = _metrics_port(process, site, http)
    settings = process_settings(topology, process, sites, Ports(stream, http, metrics))
    # Of all parts of a worker its head is asked about their KV; nobody listens for that at a rank.
    transfer = None if process.rank else settings.transfer
    side_channel = None if transfer is None else transfer.side_channel.port
    folder = site.unit_folder(process.name)
    path = f"{folder}/settings.json"
    services = {
        "NATS_SERVER": Url(settings.services.nats),
        "ETCD_ENDPOINTS": Url(",".join(settings.services.etcd)),
    }
    env = _env(process, sites, services)
    document = {
        "argv": [site.python, "-m", "dyno_runtime", path],
        "env": {name: reveal(value) for name, value in env.items()},
        "listens": [port for port in (http, stream, metrics, side_channel) if port is not None],
        "stop_grace_s": ROLE_GRACE_S,
    }
    files = ((path, render(settings)),)
    seen_at = None if metrics is None and http is None else f"{site.address}:{metrics or http}"
    shown = _shown(process, env, sites)
    return _finish(site, process.name, process.kinds, document, files=files, metrics=seen_at, **shown)


def _ray_unit(topology: Topology, process: Process, sites: Mapping[str, Site]) -> UnitSpec:
    """One node of the Ray cluster under a worker."""
    site = sites[process.node]
    path = f"{site.unit_folder(process.name)}/settings.json"
    ports = ray_ports(process, site)
    env = _env(process, sites, replica_env(topology, process, site))
    document = {
        "argv": [site.python, "-m", "dyno_runtime", "ray", path],
        "env": {name: reveal(value) for name, value in env.items()},
        "listens": [port for use, port in ports.items() if use != "client"],  # nobody needs that one
        "stop_grace_s": ROLE_GRACE_S,
    }
    files = ((path, render(ray_settings(topology.name, process, sites))),)
    return _finish(site, process.name, process.kinds, document, files=files, **_shown(process, env, sites))


def _env(
    process: Process, sites: Mapping[str, Site], more: Mapping[str, str | Secret]
) -> dict[str, str | Secret]:
    """The environment of a process: ours first, so that whoever wrote the file has the last word."""
    site = sites[process.node]
    env: dict[str, str | Secret] = {"PYTHONPATH": site.code, "PYTHONUNBUFFERED": "1", **more}
    env |= ray_env(process, sites)
    for placement in process.placements:
        env.update(engine_env(placement, process.node, site))
        env.update(placement.env)
    if process.placements[0].on_ray and not process.ray:
        return {name: value for name, value in env.items() if not name.startswith(HANDED_ON)}
    return env


def _shown(process: Process, env: Mapping[str, str | Secret], sites: Mapping[str, Site]) -> dict[str, Any]:
    """What people see of a process beside its document. On Ray it is Ray that has the GPUs."""
    node, site = process.node, sites[process.node]
    holders = [one for one in process.placements if process.ray or not one.on_ray]
    gpus = tuple(gpu for placement in holders for gpu in gpus_of(placement, node, site))
    return {"gpus": gpus, "shown_env": shown_env(env), "worker": worker_of(process)}


def shown_env(env: Mapping[str, str | Secret]) -> tuple[tuple[str, str], ...]:
    """An environment as people may see it; what is the same for every process of every cluster is left out."""
    return tuple(
        (name, repr(value) if isinstance(value, Secret) else value)
        for name, value in env.items()
        if not name.startswith("PYTHON")
    )


def _stream_port(process: Process, site: Site) -> int:
    first = process.placements[0]
    for placement in process.placements if process.is_head else ():
        if placement.stream_port is not None:
            return placement.stream_port
    return site.ports.chosen(f"{process.name}.stream", STREAM_BASE[first.role] + first.index)


def _metrics_port(process: Process, site: Site, http_port: int | None) -> int | None:
    """None where metrics are at the port for HTTP; where processes share that one, each has its own besides.

    A rank has none: its head counts for the whole worker.
    """
    if process.rank or (http_port is not None and not shares_http(process)):
        return None
    first = process.placements[0]
    return site.ports.chosen(f"{process.name}.metrics", METRICS_BASE[first.role] + first.index)

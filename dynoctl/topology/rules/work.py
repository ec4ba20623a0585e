"""Rules on what the roles do together: the ring is closed, and workers that hand over blocks agree on them.

In: a topology. Out: findings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dynoctl.topology.document import Path
from dynoctl.topology.engine import Engine, argument_name
from dynoctl.topology.finding import Finding
from dynoctl.topology.machines import Install
from dynoctl.topology.model import Topology
from dynoctl.topology.rules.places import workers

NO_DEVICE = "has no effect, as only the engine vllm computes on a device"


def ends_of_the_ring(topology: Topology) -> Iterator[Finding]:
    """Somebody takes requests, and somebody makes tokens."""
    if not topology.roles.frontend:
        yield Finding(("roles", "frontend"), "is missing: nothing would take requests", at_key=True)
    if not topology.roles.decode:
        yield Finding(("roles", "decode"), "is missing: nothing would make tokens", at_key=True)


def prefill_and_disagg(topology: Topology) -> Iterator[Finding]:
    """Prefill workers are there exactly where something is sent to them."""
    mode = topology.disagg.mode
    both = next((place for place, one in enumerate(topology.roles.decode) if one.role == "both"), None)
    if mode != "off" and not topology.roles.prefill and both is None:
        yield Finding(
            ("disagg", "mode"),
            f"is '{mode}', and there is no prefill worker",
            "add `prefill:` to `roles`, or write `mode: off`",
        )
    if mode == "off" and both is not None:
        yield Finding(
            ("roles", "decode", both, "role"),
            "is 'both', and nothing is ever in the prefill queue, as disagg.mode is 'off'",
            "write `disagg: {mode: always}`, or conditional",
            rests_on=(("disagg", "mode"),),
        )
    if mode == "off" and topology.roles.prefill:
        yield Finding(
            ("roles", "prefill"),
            "would never get work, as disagg.mode is 'off'",
            "write `disagg: {mode: always}`, or conditional",
            at_key=True,
            rests_on=(("disagg", "mode"),),
        )


def both_roles(topology: Topology) -> Iterator[Finding]:
    """It is decode that may do both."""
    for place, worker in enumerate(topology.roles.prefill):
        if worker.role is not None:
            message = "is for decode: a worker that prefills and decodes is a decode worker"
            yield Finding(("roles", "prefill", place, "role"), message, "move it to `decode`", at_key=True)


def same_engine(topology: Topology) -> Iterator[Finding]:
    """All workers of a model have the same blocks, so that one can go on with what another one began."""
    reference: dict[str, tuple[Path, Engine]] = {}
    for path, worker in workers(topology):
        engine = topology.engine.overridden(worker.engine)
        model = (worker.model or topology.model).name
        first, other = reference.setdefault(model, (path, engine))
        for key in ("kind", "device", "block_size", "max_model_len"):
            mine, theirs = getattr(engine, key), getattr(other, key)
            if mine != theirs:
                at = path if getattr(worker.engine, key) is not None else first
                says = f"{key} is {mine} for {path[1]} and {theirs} for {first[1]}"
                rests_on = (("engine", key), (*path, "engine", key), (*first, "engine", key))
                message = f"{says}; workers of one model must agree"
                yield Finding((*at, "engine", key), message, rests_on=rests_on)


def same_model(topology: Topology) -> Iterator[Finding]:
    """What is prefilled can be decoded, and a name that clients ask for means one model."""
    ids: dict[str, str] = {}
    decoded = {(worker.model or topology.model).name for worker in topology.roles.decode}
    for path, worker in workers(topology):
        model = worker.model or topology.model
        first = ids.setdefault(model.name, model.id)
        if first != model.id:
            message = f"'{model.name}' is {first} for other workers; one name means one model"
            yield Finding((*path, "model", "id"), message)
        if path[1] == "prefill" and decoded and model.name not in decoded:
            yield Finding((*path, "model"), f"nothing decodes '{model.name}'", at_key=True)


def staged_folders(topology: Topology) -> Iterator[Finding]:
    """Only a folder can be copied from node to node."""
    places: list[tuple[Path, Any]] = [(("model",), topology.model)]
    places += [((*path, "model"), worker.model) for path, worker in workers(topology)]
    for path, model in places:
        if model is not None and model.stage_from is not None and not model.id.startswith(("/", "~/")):
            message = f"'{model.id}' is a name of the hub; only a folder can be copied"
            yield Finding(
                (*path, "stage_from"), message, "write the folder's path as `id`, and `served_name`"
            )


def planner(topology: Topology) -> Iterator[Finding]:
    """One planner, whose thresholds leave room between them."""
    count = 0
    for index, spec in enumerate(topology.roles.planner):
        path: Path = ("roles", "planner", index)
        for low, high in (("kv_down", "kv_up"), ("queue_down", "queue_up")):
            below, above = getattr(spec, low), getattr(spec, high)
            if below >= above:
                message = f"{below:g} is not below `{high}` ({above:g}): it would wish for more and for fewer"
                yield Finding((*path, low), message, rests_on=((*path, high),))
        count += spec.replicas * max(1, len(spec.sites))
    if count > 1:
        message = f"these are {count} planners, and one decides for the whole cluster"
        yield Finding(("roles", "planner"), message, "keep one: `planner: {node: …}`", at_key=True)


def arguments(topology: Topology) -> Iterator[Finding]:
    """An argument of the engine is given once, however it is spelled."""
    places: list[tuple[Path, dict[str, Any]]] = [(("engine",), topology.engine.args)]
    places += [((*path, "engine"), worker.engine.args) for path, worker in workers(topology)]
    for path, args in places:
        seen: dict[str, str] = {}
        for key in args:
            first = seen.setdefault(argument_name(key), key)
            if first != key:
                yield Finding((*path, "args", key), f"is the same argument as '{first}'", at_key=True)


def device(topology: Topology) -> Iterator[Finding]:
    """Only vLLM computes on something."""
    top = topology.engine.kind
    overrides = [((*path, "engine"), worker.engine) for path, worker in workers(topology)]
    kinds = {top, *(engine.kind for _, engine in overrides)}
    if topology.engine.device == "cpu" and "vllm" not in kinds:
        yield Finding(("engine", "device"), NO_DEVICE, at_key=True)
    for path, engine in overrides:
        if engine.device == "cpu" and (engine.kind or top) != "vllm":
            yield Finding((*path, "device"), NO_DEVICE, at_key=True)


def environment(topology: Topology) -> Iterator[Finding]:
    """Where an environment is named, nothing is installed."""
    if topology.python is not None and topology.install != Install():
        message = "has no effect, as `python` names an environment that is used as it is"
        yield Finding(("install",), message, at_key=True)

"""Rung 5: a real request through the whole path, to every decode worker, from a frontend's own node.

In: the units, what each worker serves, whom prefill workers help, a way to ask. Out: a `Proof` each, or `NotReady`
with what came back. A worker of a model is asked by a streaming chat request, one of the engine hello by /generate.
Where prefill is done elsewhere the request asks for it, and an answer that was prefilled locally is no proof.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dynoctl.errors import NotReady
from dynoctl.plan.results import Proof
from dynoctl.plan.steps import UnitSpec
from dynoctl.topology.model import Topology

TIMEOUT_S = 30.0
PROMPT = "dynoctl asks whether the whole path serves"
TOKENS = 8

Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """One probing request: through which frontend, to which worker. `model` is None for the engine hello."""

    frontend: UnitSpec
    worker: UnitSpec
    url: str
    remote_prefill: bool
    model: str | None = None


def models(topology: Topology) -> dict[tuple[str, str], str]:
    """What the workers serve, by node and unit; those of the engine hello are left out."""
    return {
        (process.node, process.name): one.model.name
        for process in topology.processes
        for one in process.placements
        if one.model is not None and one.engine is not None and one.engine.kind != "hello"
    }


def helped(topology: Topology) -> frozenset[tuple[str, str]]:
    """The workers, by node and unit, for whose model there are prefill workers."""
    prefilled = {
        one.model.name
        for process in topology.processes
        for one in process.placements
        if "prefill" in process.roles and one.model is not None
    }
    return frozenset(
        (process.node, process.name)
        for process in topology.processes
        for one in process.placements
        if one.role == "decode" and one.model is not None and one.model.name in prefilled
    )


def routes(
    specs: tuple[UnitSpec, ...],
    served: Mapping[tuple[str, str], str],
    helped: Collection[tuple[str, str]] = (),
) -> tuple[Route, ...]:
    """Every decode worker once, through the frontends in turn; every frontend at least once. Those that are `helped`
    are to prove that a prompt can be prefilled elsewhere."""
    frontends = [spec for spec in specs if "frontend" in spec.roles]
    workers = [spec for spec in specs if "decode" in spec.roles]
    if not frontends or not workers:
        return ()
    count = max(len(frontends), len(workers))
    pairs = zip(itertools.cycle(frontends), itertools.cycle(workers), range(count), strict=False)
    return tuple(
        Route(frontend, worker, url_of(frontend), at in helped, served.get(at))
        for frontend, worker, _ in pairs
        for at in [(worker.node, worker.name)]
    )


def url_of(frontend: UnitSpec) -> str:
    """Where a frontend answers, seen from its own node."""
    return f"http://127.0.0.1:{frontend.listens[0]}"


def prove(route: Route, ask: Ask) -> Proof:
    """Send one request and judge the answer.

    Raises:
        NotReady: no answer, an error, another worker, an empty output, or a local prefill where a remote one is due.
    """
    worker = f"{route.worker.node}/{route.worker.name}"
    headers = {"content-type": "application/json", "x-dyno-probe": "1", "x-dyno-target": worker}
    if route.remote_prefill:
        headers["x-dyno-prefill"] = "remote"
    path, body = _question(route.model)
    request = {
        "method": "POST",
        "url": f"{route.url}{path}",
        "headers": headers,
        "body": json.dumps(body),
        "timeout_s": TIMEOUT_S,
    }
    answer = ask(route.frontend.node, request)
    if not answer.get("ok"):
        raise _unproven(route, worker, str(answer.get("error")))
    if answer["status"] != 200:
        raise _unproven(route, worker, f"status {answer['status']}: {_message(answer['body'])}")
    said = {name.lower(): value for name, value in answer["headers"].items()}
    prefill = said.get("x-dyno-prefill", "local")
    if said.get("x-dyno-worker") != worker:
        raise _unproven(route, worker, f"{said.get('x-dyno-worker', 'nobody')} answered in its place")
    output = _output(answer["body"]) if route.model is None else _streamed(answer["body"])
    if output is None:
        raise _unproven(
            route, worker, f"the answer is not what a worker says: {answer['body'].strip()[:200]}"
        )
    if not output:
        raise _unproven(route, worker, "the output is empty")
    if route.remote_prefill and not prefill.startswith("remote:"):
        raise _unproven(route, worker, "the prefill was done by the worker itself, not by a prefill worker")
    remote = prefill.removeprefix("remote:") if prefill.startswith("remote:") else None
    return Proof(route.frontend.node, worker, remote, answer["took_s"] * 1000, output)


def _question(model: str | None) -> tuple[str, dict[str, Any]]:
    """The path and the body of the request."""
    if model is None:
        return "/generate", {"prompt": PROMPT, "request_id": "dynoctl-proof"}
    messages = [{"role": "user", "content": PROMPT}]
    return "/v1/chat/completions", {
        "model": model,
        "messages": messages,
        "stream": True,
        "max_tokens": TOKENS,
    }


def _streamed(body: str) -> str | None:
    """What the worker made, from all events of a stream; None where it is not a whole one."""
    events = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    if events[-1:] != ["[DONE]"]:
        return None
    try:
        choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
        return "".join(str(choice["delta"].get("content") or "") for choice in choices)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _output(body: str) -> str | None:
    """What the worker made; None where the answer has no place for it."""
    try:
        return str(json.loads(body)["worker_output"])
    except (ValueError, KeyError, TypeError):
        return None


def _message(body: str) -> str:
    """The sentence in an error's body."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.strip()[:200] or "no body"


def _unproven(route: Route, worker: str, why: str) -> NotReady:
    frontend = f"{route.frontend.node}/{route.frontend.name}"
    return NotReady(
        f"no token came back from {worker} through {frontend}: {why}",
        next=f"dynoctl logs {route.worker.document['cluster']} --role {worker}",
    )

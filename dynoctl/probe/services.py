"""etcd and NATS, proven before any role uses them, by the nodes that run them or, of existing ones, by the first.

In: a plan, a way to ask. Out: a line each; or `NotReady` with the reason and the service's log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from dynoctl.errors import NotReady
from dynoctl.plan.steps import Plan, Service

DEADLINE_S = 30.0
EXISTING_DEADLINE_S = 5.0  # one that runs already has nothing to wait for

Ask = Callable[[str, str, dict[str, Any]], list[dict[str, Any]]]


def prove_services(plan: Plan, ask: Ask) -> Iterator[str]:
    """Ask each service for its health, all of one node at once; they are there within seconds or never.

    Raises:
        NotReady: one is not what it should be.
    """
    folders = {(spec.node, spec.name): spec.folder for spec in plan.units}
    groups: dict[tuple[str, bool], list[Service]] = {}
    for service in plan.services:
        groups.setdefault((service.node, (service.node, service.kind) in folders), []).append(service)
    for (node, ours), services in groups.items():
        requests = [_request(service, folders.get((node, service.kind))) for service in services]
        deadline_s = DEADLINE_S if ours else EXISTING_DEADLINE_S
        answers = ask(node, "await", {"services": requests, "deadline_s": deadline_s})
        said = {int(answer["service"]): answer for answer in answers if "service" in answer}
        for number, service in enumerate(services):
            answer = said.get(number, {"error": "the node program said nothing of it"})
            if not answer.get("ok"):
                raise _unproven(plan.cluster, service, answer, ours=ours)
            version = f" {answer['version']}" if answer.get("version") else ""
            yield f"{service.kind}{version} on {service.node} is proven"


def _unproven(cluster: str, service: Service, answer: dict[str, Any], *, ours: bool) -> NotReady:
    """Why it is of no use, with its log where it is ours."""
    if not ours:
        return NotReady(
            f"the {service.kind} that the topology names, asked from {service.node}: {answer.get('error')}",
            next=f"mend it or services.{service.kind}.url, then the same up again",
        )
    return NotReady(
        f"{service.node}/{service.kind}: {answer.get('error')}",
        detail=[f"| {line}" for line in (answer.get("log") or ())[-12:]],
        next=f"dynoctl logs {cluster} --role {service.node}/{service.kind}",
    )


def _request(service: Service, folder: str | None) -> dict[str, Any]:
    ours = {"unit_dir": folder} if folder else {}
    if service.kind == "etcd":
        return {"kind": "etcd", "url": service.url, **ours}
    parts = urlsplit(service.url)
    return {
        "kind": "nats",
        "host": parts.hostname,
        "port": parts.port or 4222,
        "jetstream": service.jetstream,
        **ours,
    }

"""The same values as JSON with stable keys, for programs. Secrets never appear: settings stay out,
and environments are masked.

In: values of `plan`. Out: text, one document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from dynoctl.errors import DynoctlError
from dynoctl.plan.figures import cluster_figures
from dynoctl.plan.observed import NodeSeen, Observed
from dynoctl.plan.results import Proof, RoleState, Rung, StepResult
from dynoctl.plan.steps import Plan, UnitSpec
from dynoctl.show import figures


def document(value: Any) -> str:
    """Any value of dicts, lists and scalars."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def line(value: Any) -> str:
    """The same in one line, for streams."""
    return json.dumps(value, ensure_ascii=False)


def plan(found: Plan) -> str:
    """A plan: its phases and steps in order, and all units."""
    return document(
        {
            "cluster": found.cluster,
            "verb": found.verb,
            "generation": found.generation,
            "changes": bool(found.steps),
            "phases": [
                {
                    "phase": phase.name,
                    "steps": [
                        {
                            "node": step.node,
                            "step": type(step).__name__,
                            "title": step.title,
                            "why": step.why,
                            "interrupts": step.interrupts,
                        }
                        for step in phase.steps
                    ],
                }
                for phase in found.phases
                if phase.steps
            ],
            "units": [unit(spec) for spec in found.units],
            "unchanged": list(found.unchanged),
            "warnings": list(found.warnings),
        }
    )


def unit(spec: UnitSpec) -> dict[str, Any]:
    """One process that is to run."""
    return {
        "node": spec.node,
        "unit": spec.name,
        "roles": list(spec.roles),
        "ports": list(spec.ports),
        "argv": list(spec.document["argv"]),
        "gpus": list(spec.gpus),
        "env": dict(spec.shown_env),
        "digest": spec.digest,
        "metrics": spec.metrics,
    }


def state(found: RoleState, *, served: bool) -> dict[str, Any]:
    """One role of a cluster that runs. `rung` counts the readiness ladder from 0 (down) to 5 (serving)."""
    rung = Rung.SERVING if served and found.serves and found.rung is Rung.LOADED else found.rung
    return {
        "node": found.node,
        "unit": found.unit,
        "role": found.role,
        "rung": int(rung),
        "of": int(Rung.SERVING if found.serves else found.top),
        "state": rung.name.lower(),
        "failed": found.failed,
        "note": found.note,
        "pid": found.pid,
        "up_s": round(found.up_s, 1),
        "restarts": found.restarts,
    }


def proof(found: Proof) -> dict[str, Any]:
    """A token that came back."""
    return {
        "through": found.node,
        "worker": found.worker,
        "remote_prefill": found.remote_prefill,
        "milliseconds": round(found.milliseconds, 1),
    }


def step(found: StepResult) -> dict[str, Any]:
    """A step that was carried out."""
    return {
        "node": found.node,
        "title": found.title,
        "seconds": round(found.seconds, 2),
        "error": found.error,
        "detail": list(found.detail),
    }


def error(found: DynoctlError) -> dict[str, Any]:
    """What failed, as in the text form."""
    return {"error": found.message, "detail": list(found.detail), "next": found.next}


def outcome(
    found: Plan,
    states: Iterable[RoleState],
    proofs: Iterable[Proof],
    results: Iterable[StepResult],
    address: str,
    seconds: float,
) -> str:
    """What an `up` came to."""
    return document(
        {
            "ok": True,
            "cluster": found.cluster,
            "generation": found.generation,
            "changes": bool(found.steps),
            "address": address,
            "seconds": round(seconds, 2),
            "steps": [step(result) for result in results],
            "roles": [state(each, served=True) for each in states],
            "proofs": [proof(each) for each in proofs],
        }
    )


def status(
    cluster: str,
    observed: Observed,
    states: Sequence[RoleState],
    specs: Iterable[UnitSpec],
    *,
    serving: bool,
) -> str:
    """A cluster as it is now."""
    return document(
        {
            "cluster": cluster,
            "serving": serving,
            "generation": max((seen.generation for seen in observed.nodes.values()), default=0),
            "nodes": {
                **{
                    node: {"hostname": seen.hostname, "generation": seen.generation, "lock": _lock(seen)}
                    for node, seen in observed.nodes.items()
                },
                **{node: error(failed) for node, failed in observed.failed.items()},
            },
            "roles": [state(each, served=serving) for each in states],
            "figures": figures.document(cluster_figures(observed)),
            "metrics": {f"{spec.node}/{spec.name}": spec.metrics for spec in specs if spec.metrics},
        }
    )


def targets(cluster: str, specs: Iterable[UnitSpec]) -> str:
    """Where Prometheus finds every process, in the form that its file discovery reads."""
    return document(
        [
            {
                "targets": [spec.metrics],
                "labels": {
                    "cluster": cluster,
                    "node": spec.node,
                    "unit": spec.name,
                    "roles": ",".join(spec.roles),
                },
            }
            for spec in specs
            if spec.metrics
        ]
    )


def _lock(seen: NodeSeen) -> dict[str, str] | None:
    held = seen.lock
    return {"who": held.who, "host": held.host, "doing": held.doing, "since": held.since} if held else None


def teardown(found: Plan, results: Iterable[StepResult]) -> str:
    """What a `down` came to."""
    done = list(results)
    return document(
        {
            "ok": not any(result.error for result in done),
            "cluster": found.cluster,
            "changes": bool(found.steps),
            "steps": [step(result) for result in done],
        }
    )

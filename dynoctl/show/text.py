"""Plans, states and outcomes as text for people: rich tables on a terminal, the same columns elsewhere.

In: values of `plan`. Out: rich renderables or plain lines; nothing is printed here.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dynoctl.plan.observed import Observed
from dynoctl.plan.results import Proof, RoleState, Rung
from dynoctl.plan.steps import Phase, Plan
from dynoctl.show.environment import environment_lines

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

PHASE_TITLES = {
    "leave": "take the cluster off nodes that left the topology",
    "prepare": "prepare the nodes",
    "offer": "offer models to nodes that lack them",
    "stage": "copy models",
    "withdraw": "end the offers",
    "stop": "stop units",
    "services": "start etcd and NATS, and prove them",
    "ray": "start the head of each Ray cluster",
    "ray-join": "start the other nodes of each Ray cluster, and prove it",
    "roles": "start every role at once",
    "drain": "drain and stop the frontends",
    "stop-ray": "stop Ray",
    "purge": "clean up in the existing services",
    "stop-services": "stop etcd and NATS",
    "remove": "prove that nothing is left, and remove the folders",
}
LADDER_TITLE = "wait on the ladder: process alive, port answers, registered, engine loaded; then a real token"


def plan_lines(plan: Plan) -> Iterator[str]:
    """The whole plan: phases in order, below each its nodes and their steps with the reasons."""
    if not plan.steps:
        yield f"{plan.cluster}: no changes"
        return
    for number, phase in enumerate((phase for phase in plan.phases if phase.steps), start=1):
        yield f"{number}. {PHASE_TITLES[phase.name]}"
        yield from _phase_lines(phase)
    yield from environment_lines(plan)
    yield ""
    yield summary(plan)


def _phase_lines(phase: Phase) -> Iterator[str]:
    for node, steps in phase.by_node().items():
        width = max(len(step.title) for step in steps)
        for index, step in enumerate(steps):
            head = node if index == 0 else ""
            yield f"   {head:<12} {step.title:<{width}}  ({step.why})"


def summary(plan: Plan) -> str:
    """`3 units to start, 1 to stop, 2 unchanged.`"""
    phases = [phase for phase in plan.phases if phase.name not in ("offer", "stage", "withdraw")]
    titles = [type(step).__name__ for phase in phases for step in phase.steps]
    counts = [
        (titles.count("StartUnit"), "to start"),
        (titles.count("StopUnit"), "to stop"),
        (len(plan.unchanged), "unchanged"),
    ]
    parts = [f"{count} {words}" for count, words in counts if count]
    return f"{plan.cluster}: {', '.join(parts) or 'nothing runs'}."


def duration(seconds: float) -> str:
    """`8s`, `3m12s`, `5h03m`, `2d04h`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole // 60 % 60:02}m"
    return f"{whole // 86400}d{whole // 3600 % 24:02}h"


def ladder_cell(state: RoleState, *, served: bool = False) -> Text:
    """The rungs as dots: filled where climbed."""
    from rich.text import Text

    top = Rung.SERVING if state.serves else state.top
    reached = Rung.SERVING if served and state.climbed and top is Rung.SERVING else state.rung
    colour = "red" if state.failed or reached is Rung.DOWN else "green" if reached >= top else "yellow"
    return Text("●" * min(reached, top) + "○" * (top - min(reached, top)), style=colour)


def state_word(state: RoleState, *, served: bool = False) -> str:
    """One or two words for how far a role is."""
    if state.failed:
        return "failed"
    if served and state.climbed:
        return "serving" if state.serves else "up"
    if state.climbed and not state.serves:
        return "up"
    return state.rung.word


def states_table(states: Iterable[RoleState], *, served: bool = False) -> Table:
    """One row a role, as `status` and a running `up` show it."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for heading in ("NODE", "ROLE", "UNIT", "LADDER", "STATE", "UP", "RESTARTS", "NOTE"):
        table.add_column(heading, no_wrap=heading != "NOTE", overflow="fold")
    last = None
    for state in states:
        table.add_row(
            "" if state.node == last else state.node,
            state.role,
            state.unit,
            ladder_cell(state, served=served),
            state_word(state, served=served),
            duration(state.up_s) if state.pid and state.rung else "-",
            str(state.restarts),
            state.note,
        )
        last = state.node
    return table


def status_head(
    cluster: str, observed: Observed, states: Sequence[RoleState], *, serving: bool
) -> Iterator[str]:
    """The first lines of `status`: is it serving, and who is at work on it."""
    if not states:
        if observed.nodes:
            yield f"{cluster} does not run on {count(len(observed.nodes), 'node')} that answered."
        else:
            yield f"{cluster}: no node could be asked, so whether it runs is not known."
        return
    generation = max((seen.generation for seen in observed.nodes.values()), default=0)
    short = sum(not state.climbed for state in states)
    if serving and not short:
        verdict = "serves"
    elif serving:
        verdict = f"serves, with {short} of {len(states)} roles not up"
    elif short:
        verdict = f"does NOT serve; {short} of {len(states)} roles are not up"
    else:
        verdict = f"does NOT serve, though all {len(states)} roles are up: no frontend says that it could"
    yield f"{cluster} {verdict} (generation {generation})"
    for node, seen in observed.nodes.items():
        if seen.lock is not None:
            who = f"{seen.lock.who} on {seen.lock.host}"
            yield f"at work on it since {seen.lock.since}: {who}, {seen.lock.doing} (lock on {node})"
    yield ""


def count(number: int, noun: str) -> str:
    """`1 node`, `3 nodes`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def log_line(unit: str, line: str, width: int) -> str:
    """One line of a log behind the name of its unit."""
    return f"{unit:<{width}} | {line}"


def state_line(state: RoleState) -> str:
    """The same as one line, for logs: `node2/decode-0 decode 4/4 engine loaded`."""
    note = f": {state.note}" if state.note else ""
    return (
        f"{state.node}/{state.unit} {state.role} {int(state.rung)}/{int(state.top)} {state_word(state)}{note}"
    )


def proof_line(proof: Proof) -> str:
    """What the proving request did."""
    path = f", prefilled by {proof.remote_prefill}" if proof.remote_prefill else ""
    return f"a token came back from {proof.worker}{path} in {proof.milliseconds:.0f} ms"


def models_table(models: Iterable[Mapping[str, Any]]) -> Table:
    """One row a name that clients may ask for."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for heading in ("NAME", "MODEL", "ENGINE", "LONGEST", "READY", "WORKERS"):
        table.add_column(heading, no_wrap=heading != "WORKERS", overflow="fold")
    for one in models:
        table.add_row(
            one["name"],
            one["model"] if one["model"] != one["name"] else "-",
            one["engine"],
            str(one["max_model_len"]),
            f"{one['ready']}/{len(one['workers'])}",
            ", ".join(one["workers"]),
        )
    return table


def next_lines(address: str, cluster: str, model: str | None) -> Iterator[str]:
    """What to do with a cluster that is up; `model` is one that can be asked for, None for the engine hello."""
    yield ""
    yield f"address  {address}"
    if model is None:
        yield f"try      curl -s {address}/generate -H 'Content-Type: application/json' \\"
        yield """           -d '{"prompt": "Tell me a joke", "request_id": "1"}'"""
    else:
        messages = [{"role": "user", "content": "Tell me a joke"}]
        body = json.dumps({"model": model, "stream": True, "messages": messages})
        yield f"try      curl -sN {address}/v1/chat/completions -H 'Content-Type: application/json' \\"
        yield f"           -d {shlex.quote(body)}"
    yield f"next     dynoctl status {cluster}  |  dynoctl logs {cluster} --follow  |  dynoctl down {cluster}"

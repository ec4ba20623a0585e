"""Carrying out a plan: phase by phase, in each phase all nodes at once, on each node its steps in order.

In: a plan, a fleet, the artifacts. Out: what every step came to. A node is sent what it lacks, then one exec of the
node program does all of a phase's steps there; each step states what it ensures, so a run that was cut off is
simply run again. A phase begins when the one before has ended well everywhere. The units of one node that a phase
starts are started side by side, and so are they stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dynoctl.errors import CommandFailed, NodeError
from dynoctl.plan.commands import Action, actions, upload_path
from dynoctl.plan.results import StepResult
from dynoctl.plan.steps import Artifact, Phase, Plan, Push, RemoveCluster, Step, StopUnit
from dynoctl.remote.connection import Connection
from dynoctl.remote.fleet import Fleet
from dynoctl.remote.node_program import Answer, stream

PUSH_TIMEOUT_S = 600.0
PHASE_TIMEOUT_S = (
    24
    * 3600.0  # each action ends by a time-out of its own; copying weights ends where nothing moves any more
)


@dataclass
class Events:
    """Who wants to know. Called from the threads of the window, one call at a time."""

    on_phase: Callable[[Phase], None] = lambda phase: None
    on_progress: Callable[[Step, str], None] = lambda step, text: None
    on_step: Callable[[Step, StepResult], None] = lambda step, result: None
    guard: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Means:
    """What carrying out needs: where the node program is on each node, our roots there, and the bytes to send."""

    programs: dict[str, str]
    roots: dict[str, str]
    content: Callable[[Artifact], bytes]


class StepFailed(CommandFailed):
    """The node program was there and refused a step; what comes after it can still be asked for."""

    def __init__(self, step: Step, message: str, *, detail: Sequence[str] = ()) -> None:
        super().__init__(step.node, message, detail=detail)
        self.step = step


def execute(
    plan: Plan, fleet: Fleet, means: Means, events: Events, *, go_on: bool = False
) -> list[StepResult]:
    """Carry out every phase. `go_on` (for `down`): a step that is refused does not keep the later phases from being
    carried out, only a node's folder stays where the later runs need it; a node that was lost is left out.

    Raises:
        NodeError: the first failure, where `go_on` is not set; other nodes have finished the phase.
    """
    results: list[StepResult] = []
    lost: set[str] = set()
    unfinished: set[str] = set()
    for phase in plan.phases:
        work = {
            node: tuple(
                step for step in steps if node not in unfinished or not isinstance(step, RemoveCluster)
            )
            for node, steps in phase.by_node().items()
            if node not in lost
        }
        if not work:
            continue
        events.on_phase(phase)
        run = _Run(work, means, events, results)
        _, errors = fleet.each(work, run)
        if errors and not go_on:
            raise _together(list(errors.values()))
        for node, error in errors.items():
            if not isinstance(error, StepFailed):
                lost.add(node)
                results.append(StepResult(node, "the rest of its steps", 0.0, error.message, error.detail))
            elif not isinstance(error.step, StopUnit):  # whether a unit is gone is for the proof to say
                unfinished.add(node)
    return results


class _Run:
    """One phase on one node."""

    def __init__(
        self, work: dict[str, tuple[Step, ...]], means: Means, events: Events, results: list[StepResult]
    ) -> None:
        self._work = work
        self._means = means
        self._events = events
        self._results = results

    def __call__(self, connection: Connection) -> None:
        steps = self._work[connection.node]
        for step in steps:
            if isinstance(step, Push):
                self._push(connection, step)
        asked = [(step, action) for step in steps for action in actions(step)]
        asked.sort(
            key=lambda each: each[1]["do"] == "start"
        )  # behind the files of all: neighbours start at once
        if asked:
            self._apply(connection, asked)

    def _push(self, connection: Connection, step: Push) -> None:
        started = time.monotonic()
        self._progress(step, "sending")
        content = self._means.content(step.artifact)
        connection.put(content, upload_path(step), mode=step.artifact.mode, timeout_s=PUSH_TIMEOUT_S)
        if not step.artifact.archive:
            self._done(step, StepResult(step.node, step.title, time.monotonic() - started))

    def _apply(self, connection: Connection, asked: list[tuple[Step, Action]]) -> None:
        """One exec for all actions; a step is done when its last action is."""
        node = connection.node
        began = time.monotonic()
        last = {id(step): number for number, (step, _) in enumerate(asked)}
        answered = -1
        refusals: list[StepFailed] = []

        def on_answer(answer: Answer) -> None:
            nonlocal answered, began
            number = answer.get("action")
            if not isinstance(number, int) or not 0 <= number < len(asked):
                return
            step, _ = asked[number]
            if "progress" in answer:
                self._progress(step, str(answer["progress"]))
                return
            now = time.monotonic()
            took_s = float(answer.get("took_s") or now - began)
            if not answer.get("ok"):
                refusals.append(refusal := _refused(step, answer))
                self._done(step, StepResult(node, step.title, took_s, refusal.message, refusal.detail))
            else:
                answered = number
                if last[id(step)] == number:
                    self._done(step, StepResult(node, step.title, took_s, None, _remarks(answer)))
                    began = now

        request = {"root": self._means.roots[node], "actions": [action for _, action in asked]}
        stream(
            connection,
            self._means.programs[node],
            "apply",
            request,
            timeout_s=PHASE_TIMEOUT_S,
            on_answer=on_answer,
        )
        if refusals:
            raise _together(list(refusals))
        if answered != len(asked) - 1:
            raise CommandFailed(node, f"the node program stopped before {asked[answered + 1][0].title!r}")

    def _progress(self, step: Step, text: str) -> None:
        with self._events.guard:
            self._events.on_progress(step, text)

    def _done(self, step: Step, result: StepResult) -> None:
        with self._events.guard:
            self._results.append(result)
            self._events.on_step(step, result)


def _together(errors: list[NodeError]) -> NodeError:
    """The first, with a line for each other one of the same phase."""
    first, *others = errors
    first.detail = (*first.detail, *(f"and {other.message}" for other in others))
    return first


def _refused(step: Step, answer: Answer) -> StepFailed:
    """The node's sentence, with what the unit printed last."""
    error, *rest = str(answer.get("error", "refused without a reason")).splitlines()
    tail = [str(line) for line in answer.get("log") or answer.get("tail") or ()]
    return StepFailed(step, f"cannot {step.title}: {error}", detail=[*rest, *_left(answer), *tail])


def _remarks(answer: Answer) -> tuple[str, ...]:
    """What went well, and is worth knowing all the same."""
    return (*_left(answer), *([str(answer["warning"])] if "warning" in answer else ()))


def _left(answer: Answer) -> tuple[str, ...]:
    return tuple(_describe(left) for left in answer.get("left") or ())


def _describe(left: object) -> str:
    if isinstance(left, dict):
        return ", ".join(f"{name} {value}" for name, value in left.items())
    return str(left)

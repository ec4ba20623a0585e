"""Verb `watch`: a line per change of the units of this node, until all have got there or one cannot.

In: `{"units": [folders…], "until": "listening" | "registered" | "engine_ready", "stuck_s": 60, "deadline_s": 600,
"expects": {"by": [roles…], "counts": {"decode": 2}}, "ends": {unit: 3}}`; units of the roles `by` must see these
counts to be registered; so often has a unit of `ends` ended before, which is no news.
Out: views (see `look.View`), and at the end `{"done": true, "reason": "ready" | "failed" | "stuck" | "deadline",
"units": {…}, "why": {unit: sentence}, "tail": {unit: [last lines of its log]}}`. Ends without a word once nobody
reads any more.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dyno_node import listening, log, proc, supervise
from dyno_node.look import View
from dyno_node.progress import Progress, without_beat
from dyno_node.request import BadRequest, Request, number, text, texts
from dyno_node.unit import UnitDir

LOOK_S = 0.05
SAMPLE_S = 1.0
GOALS = ("listening", "registered", "engine_ready")


def watch(request: Request, output: int = 1) -> Iterator[dict[str, Any]]:
    """Yield the lines. `output` is the descriptor they go to: when its reader is gone, we are done."""
    goal = text(request, "until", "listening")
    if goal not in GOALS:
        raise BadRequest(f"until is {goal!r}, not one of {', '.join(GOALS)}")
    stuck_s, deadline_s = number(request, "stuck_s", 60.0), number(request, "deadline_s", 600.0)
    expects = request.get("expects") or {}
    counted = Counted(tuple(expects.get("by", ())), dict(expects.get("counts", {})))
    known = dict(request.get("ends") or {})
    watched = [Watched(UnitDir.at(each), goal, counted, known) for each in texts(request, "units")]
    start_s = time.monotonic()
    sample_s = start_s
    reader = _reader(output)
    while True:
        table = listening.ports()
        for each in watched:
            if each.look(table):
                yield each.view
        now_s = time.monotonic()
        if now_s >= sample_s:
            stats = proc.snapshot()
            for each in watched:
                each.sample(stats, now_s)
            sample_s = now_s + min(SAMPLE_S, max(LOOK_S, stuck_s / 4))
        reason = _reason(watched, stuck_s, now_s - start_s >= deadline_s)
        if reason is not None:
            yield _end(watched, reason)
            return
        if not reader(LOOK_S):
            return


@dataclass(frozen=True, slots=True)
class Counted:
    """How many instances of each role the units with a role of `by` must see before they count as registered."""

    by: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    def short(self, view: dict[str, Any]) -> str | None:
        """`decode 1 of 2`: the first role whose count is not exact; None where all are, or this unit need not see."""
        if not any(role in self.by for role in _roles(view)):
            return None
        sees = (view["health"] or {}).get("sees") or {}
        for role, count in self.counts.items():
            if sees.get(role, 0) != count:
                return f"{role} {sees.get(role, 0)} of {count}"
        return None


class Watched:
    """One unit on its way to a goal."""

    def __init__(
        self, place: UnitDir, goal: str, counted: Counted, known: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        self.counted = counted
        self.place = place
        self.view: dict[str, Any] = {}
        self.there = False
        self.failed: str | None = None
        self.still_s = 0.0
        self._goal = goal
        self._look = View(place)
        self._progress = Progress(place, time.monotonic())
        self._ends: int | None = known.get(self._look.name)

    @property
    def name(self) -> str:
        return self._look.name

    def look(self, table: dict[int, set[str]]) -> bool:
        """Look once; True when something has changed."""
        before, self.view = self.view, self._look(table)
        if self._ends is None:
            self._ends = self.view["restarts"]
        self.failed = failure(self.view, self._ends)
        self.there = self.failed is None and arrived(self.view, self._goal, self.counted)
        return not before or without_beat(before) != without_beat(self.view)

    def sample(self, stats: dict[int, proc.Stat], now_s: float) -> None:
        self.still_s = self._progress.sample(self.view, stats, now_s)


def failure(view: dict[str, Any], ends: int) -> str | None:
    """Why this unit will not get there, as a sentence; None while it may. `ends`: how often it had ended before.

    A unit that crashed while we watch has failed, though its supervisor tries again: the user sees the log at once.
    """
    unit, phase = view["unit"], view["phase"]
    if phase == "failed":
        return str(view["problem"] or f"{unit} {supervise.how(view['exit'])}")
    if (
        view["restarts"] + (phase == "waiting") > ends
    ):  # the end that it waits after was followed by no start yet
        return f"{unit} {supervise.how(view['exit'])}"
    if phase in ("none", "unreadable", "stopped", "stopping", "gone"):
        return f"{unit} {_NOT_RUNNING[phase]}"
    for role, its in _roles(view).items():
        if its.get("engine") == "failed":
            return f"{role}: {its.get('problem') or 'its engine failed and did not say why'}"
    return None


_NOT_RUNNING = {
    "none": "was never started",
    "unreadable": "has an unreadable state.json",
    "stopped": "was stopped",
    "stopping": "is being stopped",
    "gone": "is gone, and its supervisor too",
}


def arrived(view: dict[str, Any], goal: str, counted: Counted = Counted()) -> bool:
    """Whether the unit has reached the goal; each goal includes those before it."""
    if view["phase"] != "running" or not all(view["listening"].values()):
        return False
    if goal == "listening":
        return True
    roles = _roles(view)
    if not roles or not view["responding"] or not all(its.get("registered") for its in roles.values()):
        return False
    if counted.short(view):
        return False
    return goal == "registered" or all(its.get("engine") in ("none", "ready") for its in roles.values())


def _roles(view: dict[str, Any]) -> dict[str, dict[str, Any]]:
    roles = (view["health"] or {}).get("roles")
    return roles if isinstance(roles, dict) else {}


def _reason(watched: list[Watched], stuck_s: float, late: bool) -> str | None:
    if any(each.failed for each in watched):
        return "failed"
    if all(each.there for each in watched):
        return "ready"
    if any(not each.there and each.still_s >= stuck_s for each in watched):
        return "stuck"
    return "deadline" if late else None


def _end(watched: list[Watched], reason: str) -> dict[str, Any]:
    short = [] if reason == "ready" else [each for each in watched if not each.there]
    # Who is to blame comes first: who failed, else who stood still the longest. The others may only wait for it.
    short.sort(key=lambda each: (each.failed is None, -each.still_s))
    return {
        "done": True,
        "reason": reason,
        "units": {each.name: each.view for each in watched},
        "why": {each.name: each.failed or _unready(each) for each in short},
        "tail": {each.name: log.tail(each.place.log) for each in short},
    }


def _unready(each: Watched) -> str:
    missing = [port for port, yes in each.view["listening"].items() if not yes]
    still = f"; nothing moved for {each.still_s:.0f} s" if each.still_s >= 1 else ""
    if missing:
        return f"{each.name} does not listen on port {', '.join(missing)}{still}"
    if short := each.counted.short(each.view):
        return f"{each.name} sees {short}{still}"
    problems = [str(its["problem"]) for its in _roles(each.view).values() if its.get("problem")]
    return f"{each.name} is not ready{': ' + '; '.join(problems) if problems else ''}{still}"


def _reader(output: int) -> Callable[[float], bool]:
    """A wait that says whether anybody still reads `output`.

    Standard input cannot tell: it ends right after the request. A pipe or socket without a reader reports
    an error or a hang-up without being asked for any event.
    """
    poll = select.poll()
    poll.register(output, 0)

    def wait(timeout_s: float) -> bool:
        return not poll.poll(timeout_s * 1000)

    return wait

"""One unit: leave it, start it, or stop it first. Every branch, with its reason to the letter."""

from __future__ import annotations

from typing import Any

import pytest

from dynoctl.plan.manifest import parts
from dynoctl.plan.observed import UnitSeen
from dynoctl.plan.steps import UnitSpec
from dynoctl.plan.verdict import Verdict, judge

DOCUMENT: dict[str, Any] = {
    "argv": ["/python", "-m", "dyno_runtime"],
    "env": {"PYTHONPATH": "/code/1", "A": "1"},
    "listens": [7300],
    "stop_grace_s": 15.0,
    "restart": {},
    "log": {},
}
SPEC = UnitSpec("decode-0", "n1", ("decode",), "/u/decode-0", DOCUMENT, (("/s.json", "{}"),), digest="new")


def seen(phase: str = "running", *, digest: str = "new", alive: bool = True, **more: Any) -> UnitSeen:
    return UnitSeen("decode-0", digest, phase, alive, **{"supervised": alive, **more})


CASES: dict[str, tuple[UnitSeen | None, Verdict]] = {
    "never seen": (None, Verdict(True, False, "does not run yet")),
    "cut off while starting": (
        UnitSeen("decode-0", None, "unknown", False, supervised=False),
        Verdict(True, True, "an earlier run was cut off while it started this"),
    ),
    "cut off while stopping": (
        seen("stopping"),
        Verdict(True, True, "an earlier run was cut off while it stopped this"),
    ),
    "changed and alive": (
        seen(digest="old"),
        Verdict(True, True, "it runs with something else than the topology says", serves=True),
    ),
    "changed and dead": (
        seen(digest="old", alive=False),
        Verdict(True, True, "it runs with something else than the topology says", serves=False),
    ),
    "changed and failed": (
        seen("failed", digest="old", alive=False),
        Verdict(True, True, "it runs with something else than the topology says"),
    ),
    "failed": (
        seen("failed", alive=False, restarts=5, exit={"code": 1}),
        Verdict(True, True, "it failed: exit status 1 after 5 restarts"),
    ),
    "failed once": (
        seen("failed", alive=False, restarts=1, exit={"code": 0}),
        Verdict(True, True, "it failed: exit status 0 after 1 restart"),
    ),
    "supervisor gone": (
        seen(supervised=False),
        Verdict(True, False, "it runs, but its supervisor is gone"),
    ),
    "runs": (seen(), Verdict(False, False, "runs as it should")),
    "starting": (seen("starting", alive=False, supervised=True), Verdict(False, False, "runs as it should")),
    "waiting": (seen("waiting", alive=False, supervised=True), Verdict(False, False, "runs as it should")),
    "stopped": (seen("stopped", alive=False), Verdict(True, False, "it was stopped")),
    "killed": (
        seen("dead", alive=False, restarts=2, exit={"signal": 9}),
        Verdict(True, True, "it does not run any more: ended by signal 9 after 2 restarts"),
    ),
    "ended unseen": (
        seen("dead", alive=False, restarts=0, exit={"unknown": 1}),
        Verdict(True, True, "it does not run any more: it ended unseen, after 0 restarts"),
    ),
    "node restarted": (
        seen("dead", alive=False),
        Verdict(True, True, "it does not run any more: the node was restarted, or its processes were killed"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_verdict(case: str) -> None:
    found, verdict = CASES[case]
    assert judge(SPEC, found, None) == verdict


CHANGES: dict[str, tuple[dict[str, str], str]] = {
    "code": ({"the code": "/code/0"}, "the code changed"),
    "program": ({"its program": "/other"}, "its program changed"),
    "arguments": ({"its arguments": "x"}, "its arguments changed"),
    "environment": ({"its environment variables": "x"}, "its environment variables changed"),
    "settings": ({"its settings": "x"}, "its settings changed"),
    "supervision": ({"its supervision": "x"}, "its supervision changed"),
    "two": ({"the code": "/code/0", "its settings": "x"}, "the code and its settings changed"),
    "none": ({}, "it runs with something else than was recorded"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_changed_is_named(case: str) -> None:
    other, why = CHANGES[case]
    verdict = judge(SPEC, seen(digest="old"), {**parts(SPEC), **other})
    assert verdict == Verdict(True, True, why, serves=True)

"""One unit, as it is to be and as it was seen: leave it, start it, or stop it first.

In: the spec, what was seen, and the parts that the node recorded. Out: a `Verdict` with its reason in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dynoctl.plan.manifest import parts
from dynoctl.plan.observed import UnitSeen
from dynoctl.plan.steps import UnitSpec


@dataclass(frozen=True, slots=True)
class Verdict:
    """`serves`: stopping it takes something away that works now."""

    start: bool
    stop: bool
    why: str
    serves: bool = False


def judge(spec: UnitSpec, seen: UnitSeen | None, recorded: Mapping[str, str] | None) -> Verdict:
    """What is to happen to a unit, and why."""
    if seen is None:
        return Verdict(True, False, "does not run yet")
    if seen.phase == "unknown":
        return Verdict(True, True, "an earlier run was cut off while it started this")
    if seen.digest != spec.digest:
        return Verdict(True, True, _what_changed(spec, recorded), serves=seen.alive)
    if seen.phase == "failed":
        return Verdict(True, True, f"it failed: {ended(seen)}")
    if seen.phase == "stopping":
        return Verdict(True, True, "an earlier run was cut off while it stopped this")
    if seen.alive and not seen.supervised:
        return Verdict(True, False, "it runs, but its supervisor is gone")
    if seen.alive or (seen.supervised and seen.phase in ("starting", "waiting")):
        return Verdict(False, False, "runs as it should")
    if seen.phase == "stopped":
        return Verdict(True, False, "it was stopped")
    return Verdict(True, True, f"it does not run any more: {ended(seen)}")


def place(spec: UnitSpec) -> tuple[str, str]:
    """A unit's node and name."""
    return spec.node, spec.name


def together(
    specs: tuple[UnitSpec, ...], verdicts: Mapping[tuple[str, str], Verdict]
) -> dict[tuple[str, str], Verdict]:
    """The same verdicts, where a worker that is larger than a node is restarted as one: if a process of it that runs
    has to stop, all of them are stopped and started."""
    first: dict[str, UnitSpec] = {}
    for spec in specs:
        if spec.worker and verdicts[place(spec)].stop and verdicts[place(spec)].serves:
            first.setdefault(spec.worker, spec)
    found = dict(verdicts)
    for spec in specs:
        cause = first.get(spec.worker)
        if cause is not None and not verdicts[place(spec)].start:
            why = f"a part of the same worker restarts, {cause.node}/{cause.name}"
            found[place(spec)] = Verdict(True, True, why, serves=True)
    return found


def ended(seen: UnitSeen) -> str:
    """How a unit's process ended last, in words."""
    if not seen.exit:
        return "the node was restarted, or its processes were killed"
    after = f"after {seen.restarts} restart{'' if seen.restarts == 1 else 's'}"
    if "signal" in seen.exit:
        return f"ended by signal {seen.exit['signal']} {after}"
    if "code" in seen.exit:
        return f"exit status {seen.exit['code']} {after}"
    return f"it ended unseen, {after}"


def _what_changed(spec: UnitSpec, recorded: Mapping[str, str] | None) -> str:
    if recorded is None:
        return "it runs with something else than the topology says"
    changed = [name for name, value in parts(spec).items() if recorded.get(name) != value]
    if not changed:
        return "it runs with something else than was recorded"
    return f"{' and '.join(changed)} changed"

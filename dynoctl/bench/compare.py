"""Two runs side by side: what changed, by how much, and whether that is more than noise.

In: records of one tool. Out: a `Change` a figure and load, or `DynoctlError` where they cannot be compared. The
noise of a figure is what repeats of the same point differ by; Welch's interval at 95 % says whether a change is more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, variance

from dynoctl.bench.record import BYTES, Point, Record
from dynoctl.errors import DynoctlError

# Two-sided 95 % of Student's t, by degrees of freedom.
_T95 = (
    12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_Z95 = 1.959964  # of the normal distribution, which t becomes
HIGHER_IS_BETTER = {
    "requests_per_s": True,
    "output_tokens_per_s": True,
    "ttft_ms": False,
    "itl_ms": False,
    "latency_ms": False,
}


@dataclass(frozen=True, slots=True)
class Change:
    """One figure at one load. `margin` is half of the interval of `now - was`; None where nothing was repeated."""

    load: str
    figure: str
    was: float
    now: float
    margin: float | None

    @property
    def percent(self) -> float | None:
        """By how much, of what it was."""
        return (self.now - self.was) / self.was * 100 if self.was else None

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `noise`, or `not repeated`."""
        if self.margin is None:
            return "not repeated"
        if abs(self.now - self.was) <= self.margin:
            return "noise"
        return "better" if (self.now > self.was) == HIGHER_IS_BETTER[self.figure] else "worse"


def comparable(records: Sequence[Record], *, allow_invalid: bool) -> None:
    """Raises DynoctlError where the figures of these records cannot stand side by side."""
    first = records[0]
    for other in records[1:]:
        if other.tool.name != first.tool.name:
            raise DynoctlError(
                f"{first.id} was measured by {first.tool.name} and {other.id} by {other.tool.name}: "
                "tools send and count in ways of their own, so their figures cannot be compared",
                next=f"measure again with one of them: dynoctl bench --tool {first.tool.name}",
            )
        if (other.tokenizer == BYTES) != (first.tokenizer == BYTES):
            bytes_, tokens = (first, other) if first.tokenizer == BYTES else (other, first)
            raise DynoctlError(
                f"a token of {bytes_.id} is a byte, and one of {tokens.id} is a token of {tokens.tokenizer}: "
                "their prompts are not equally long, so their figures cannot be compared",
                next=f"measure again with one of them: dynoctl bench --tokenizer {tokens.tokenizer}",
            )
    for record in records:
        if not record.valid and not allow_invalid:
            raise DynoctlError(
                f"{record.id} is INVALID",
                detail=record.reasons,
                next="measure again, or the same with --allow-invalid",
            )


def changes(was: Record, now: Record) -> list[Change]:
    """Every figure at every load that both have, in the order of the first one. Raises DynoctlError: none."""
    theirs, ours = _by_load(was), _by_load(now)
    both = [key for key in theirs if key in ours]
    if not both:
        raise DynoctlError(
            f"{was.id} and {now.id} have no load in common",
            detail=[f"{one.id}: {'; '.join(loads(one))}" for one in (was, now)],
        )
    return [change for key in both for change in _changes(theirs[key], ours[key])]


def loads(record: Record) -> list[str]:
    """The different loads of a record, in words."""
    return list(dict.fromkeys(f"{point.load.label}, {point.load.shape}" for point in record.points))


def _by_load(record: Record) -> dict[object, list[Point]]:
    found: dict[object, list[Point]] = {}
    for point in record.points:
        found.setdefault(point.load.key, []).append(point)
    return found


def _changes(was: list[Point], now: list[Point]) -> Iterator[Change]:
    for figure in HIGHER_IS_BETTER:
        before = [value for point in was if (value := value_of(point, figure)) is not None]
        after = [value for point in now if (value := value_of(point, figure)) is not None]
        if before and after:
            margin = margin_of(before, after)
            yield Change(was[0].load.label, figure, fmean(before), fmean(after), margin)


def value_of(point: Point, figure: str) -> float | None:
    """The mean of a spread, or the figure itself."""
    found = getattr(point.metrics, figure)
    value: float | None = getattr(found, "avg", found)
    return value


def margin_of(before: Sequence[float], after: Sequence[float]) -> float | None:
    """Half of Welch's 95 % interval of the difference of two means; None where one has a single value."""
    if len(before) < 2 or len(after) < 2:
        return None
    one, other = variance(before) / len(before), variance(after) / len(after)
    error = one + other
    if error == 0:
        return 0.0
    freedom = error**2 / (one**2 / (len(before) - 1) + other**2 / (len(after) - 1))
    return t95(freedom) * sqrt(error)


def t95(freedom: float) -> float:
    """For so many degrees of freedom: the table's, and beyond it the beginning of its series in 1/freedom."""
    place = max(int(freedom), 1) - 1
    if place < len(_T95):
        return _T95[place]
    z = _Z95
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)

"""What a frontend counts of its clients' requests, and the times that it takes.

In: every request when it ends, and now and then one that is still on its way. Out: the meter. While tokens come, only
the time of each event is kept, in the choice; histograms take all of them together.
"""

from __future__ import annotations

import asyncio
from operator import sub
from typing import TYPE_CHECKING

from dyno_runtime.metrics import names
from dyno_runtime.metrics.kinds import Meter

if TYPE_CHECKING:
    from dyno_runtime.roles.choice import Choice
    from dyno_runtime.roles.visit import Visit


class Figures:
    """See the module. Where it is not `measured` nothing is counted."""

    def __init__(self, meter: Meter, *, measured: bool) -> None:
        self.measured = measured
        self._loop = asyncio.get_running_loop()
        self._requests = meter.values(names.REQUESTS)
        self._rejections = meter.values(names.REJECTIONS)
        self._prompt_tokens = meter.values(names.PROMPT_TOKENS)
        self._cached_tokens = meter.values(names.CACHED_TOKENS)
        self._answer_tokens = meter.values(names.ANSWER_TOKENS)
        self._first = meter.histogram(names.FIRST_TOKEN)
        self._between = meter.histogram(names.INTER_TOKEN)
        self._duration = meter.histogram(names.DURATION)

    def refused(self, status: int, reason: str | None) -> None:
        """A request ended with an error; 499: its client left, which is no rejection."""
        if self.measured:
            self._requests.add(1, str(status))
            if status != 499:
                self._rejections.add(1, reason or "unknown")

    def answered(self, seconds: float) -> None:
        """A request was answered as a whole, after this time."""
        if self.measured:
            self._requests.add(1, "200")
            self._duration.observe(seconds)

    def told(self, visit: Visit, status: int) -> None:
        """A request has ended."""
        if not self.measured:
            return
        if status == 200:
            self.answered(self._loop.time() - visit.arrived_s)
        else:
            self.refused(status, visit.reason)
        self._prompt_tokens.add(visit.prompt_tokens)
        for choice in visit.choices:
            self._cached_tokens.add(choice.cached_tokens)
        self.look(visit)

    def look(self, visit: Visit) -> None:
        """Take what has come since the last look."""
        for choice in visit.choices:
            said = choice.answer.tokens
            self._answer_tokens.add(said - choice.seen_tokens)
            choice.seen_tokens = said
            flight = choice.flight
            if flight is not None and flight.first_s:
                self._first.observe(flight.first_s - visit.arrived_s)
                flight.first_s = 0.0
            if choice.moments is not None and len(choice.moments) > 1:
                self._take(choice, choice.moments, choice.amounts)

    def _take(self, choice: Choice, moments: list[float], amounts: list[int]) -> None:
        """The times between its events; an event of several tokens counts as many times, each its part."""
        choice.moments, choice.amounts = moments[-1:], amounts[-1:]
        times = list(map(sub, moments[1:], moments))
        amounts = amounts[1:]
        if sum(amounts) == len(amounts):
            self._between.observe_all(times)
            return
        for seconds, amount in zip(times, amounts, strict=True):
            self._between.observe(seconds / amount, amount)

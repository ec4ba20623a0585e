"""What a frontend counts of its clients' requests, and the times that it takes.

In: every request when it ends, and now and then one that is still on its way. Out: the meter, when somebody looks.
While tokens come, only the time of each event is kept, in the choice; when a request ends, only plain sums and lists
grow, and histograms take these lists as a whole.
"""

from __future__ import annotations

from operator import sub
from typing import TYPE_CHECKING

from dyno_runtime.metrics import names
from dyno_runtime.metrics.kinds import Meter

if TYPE_CHECKING:
    from dyno_runtime.roles.choice import Choice
    from dyno_runtime.roles.visit import Visit

MOST_TIMES = 65_536  # that are kept until somebody looks


class Figures:
    """See the module. Where it is not `measured` nothing is counted."""

    def __init__(self, meter: Meter, *, measured: bool) -> None:
        self.measured = measured
        self._requests = meter.values(names.REQUESTS)
        self._rejections = meter.values(names.REJECTIONS)
        self._prompt_tokens = meter.values(names.PROMPT_TOKENS)
        self._cached_tokens = meter.values(names.CACHED_TOKENS)
        self._answer_tokens = meter.values(names.ANSWER_TOKENS)
        self._first = meter.histogram(names.FIRST_TOKEN)
        self._between = meter.histogram(names.INTER_TOKEN)
        self._duration = meter.histogram(names.DURATION)
        self._durations: list[float] = []
        self._firsts: list[float] = []
        self._gaps: list[float] = []
        self._prompts = self._cached = self._said = 0

    # ---- as it happens

    def refused(self, status: int, reason: str | None) -> None:
        """A request ended with an error; 499: its client left, which is no rejection."""
        if self.measured:
            self._requests.add(1, str(status))
            if status != 499:
                self._rejections.add(1, reason or "unknown")

    def answered(self, seconds: float) -> None:
        """A request was answered as a whole, after this time."""
        if self.measured:
            self._durations.append(seconds)
            if len(self._durations) >= MOST_TIMES:
                self.settle()

    def told(self, visit: Visit, status: int) -> None:
        """A request has ended."""
        if not self.measured:
            return
        if status == 200:
            self.answered(visit.progress_s - visit.arrived_s)
        else:
            self.refused(status, visit.reason)
        self._prompts += visit.prompt_tokens
        for choice in visit.choices:
            self._cached += choice.cached_tokens
        self._take(visit)

    def _take(self, visit: Visit) -> None:
        """What has come since the last time."""
        for choice in visit.choices:
            said = choice.answer.tokens
            self._said += said - choice.seen_tokens
            choice.seen_tokens = said
            flight = choice.flight
            if flight is not None and flight.first_s:
                self._firsts.append(flight.first_s - visit.arrived_s)
                flight.first_s = 0.0
            if choice.moments is not None and len(choice.moments) > 1:
                self._take_gaps(choice, choice.moments, choice.amounts)

    def _take_gaps(self, choice: Choice, moments: list[float], amounts: list[int]) -> None:
        """The times between its events; an event of several tokens counts as many times, each its part."""
        choice.moments, choice.amounts = moments[-1:], amounts[-1:]
        times = map(sub, moments[1:], moments)
        if sum(amounts) == len(amounts):
            self._gaps += times
            if len(self._gaps) >= MOST_TIMES:
                self.settle()
            return
        for seconds, amount in zip(times, amounts[1:], strict=True):
            self._between.observe(seconds / amount, amount)

    # ---- when somebody looks

    def look(self, visit: Visit) -> None:
        """Take what has come of a request that is still on its way; `settle` when that was the last one."""
        if self.measured:
            self._take(visit)

    def settle(self) -> None:
        """Give all to the meter."""
        if self._durations:
            self._requests.add(len(self._durations), "200")
        self._prompt_tokens.add(self._prompts)
        self._cached_tokens.add(self._cached)
        self._answer_tokens.add(self._said)
        self._prompts = self._cached = self._said = 0
        for histogram, times in (
            (self._duration, self._durations),
            (self._first, self._firsts),
            (self._between, self._gaps),
        ):
            histogram.observe_all(times)
            times.clear()

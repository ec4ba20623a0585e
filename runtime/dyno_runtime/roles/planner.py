"""The planner: watches whether the cluster has enough workers, says what it would change, and changes nothing.

In: what decode workers and frontends tell of their last minute, the depth of the prefill queue. Out: a decision an
interval, with the numbers it rests on: in etcd below `/{cluster}/planner/decisions/`, each for an hour, and the last
one in the figures of this process. A worker that does not answer is left out of that look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from dyno_runtime.bus.base import CallFailed, Down, Refused
from dyno_runtime.clock import stamp, wall_s
from dyno_runtime.core import scaling
from dyno_runtime.core.scaling import Counts, Decision, Window
from dyno_runtime.metrics import names
from dyno_runtime.metrics.minute import Minute, percentile
from dyno_runtime.roles.base import Part, Surroundings
from dyno_runtime.wire.messages import Instance, Measure, Measured
from dyno_runtime.wire.names import decision_key, lease_id

log = logging.getLogger("dyno.planner")

ASK_S = 1.0
KEPT_S = 3600.0  # how long a decision stays in etcd


class Told(msgspec.Struct, frozen=True):
    """A decision as it is written down. `acted`: this planner only observes."""

    at: str
    by: str
    decision: Decision
    acted: bool = False


class Planner(Part):
    """See the module."""

    name = "planner"

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._rules = around.settings.planner
        self._decisions = around.meter.values(names.DECISIONS)
        self._grace = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        window = Window(self._counts())
        ends_s = loop.time() + self._rules.interval_s
        while not self.draining:
            pause_s = min(self._rules.pull_s, max(ends_s - loop.time(), 0.01))
            await asyncio.sleep(pause_s)
            await self._look(window)
            if loop.time() >= ends_s:
                await self._decide(window)
                window = Window(self._counts())
                ends_s = loop.time() + self._rules.interval_s

    def _counts(self) -> Counts:
        view = self.around.members.view
        return Counts(len(view.ready("decode")), len(view.ready("prefill")))

    # ---- looking

    async def _look(self, window: Window) -> None:
        minutes = await self._minutes(self.around.members.view.ready("decode"))
        window.add(await self._depth(), [_load(one) for one in minutes])

    async def _depth(self) -> int | None:
        if self.around.settings.disagg.mode == "off" or not self.around.queue.up:
            return None
        try:
            async with asyncio.timeout(ASK_S):
                return await self.around.queue.depth()
        except (Down, Refused, TimeoutError):
            return None

    async def _minutes(self, instances: Iterable[Instance]) -> list[Minute]:
        found = await asyncio.gather(*(self._minute(one) for one in instances))
        return [minute for minute in found if minute is not None]

    async def _minute(self, instance: Instance) -> Minute | None:
        if instance.lease == self.around.lease:
            return self.around.metering.look()
        try:
            answer = await self.around.peers.ask(instance.stream, Measure(), ASK_S)
        except CallFailed as error:
            log.debug("%s does not tell its figures: %s", instance.place, error)
            return None
        try:
            return msgspec.convert(answer.minute, Minute) if isinstance(answer, Measured) else None
        except msgspec.ValidationError as error:
            log.warning("the figures of %s cannot be read: %s", instance.place, error)
            return None

    # ---- deciding

    async def _decide(self, window: Window) -> None:
        figures = _figures(await self._minutes(self.around.members.view.ready("frontend")))
        decision = scaling.decide(self._rules, window.seen(self._counts(), figures), self._grace)
        self._grace = decision.grace_after
        now_s = wall_s()
        told = Told(stamp(now_s), self.around.place, decision)
        self.around.metering.planned = msgspec.to_builtins(told)
        for role, wish in (("decode", decision.decode), ("prefill", decision.prefill)):
            if wish is not None:
                word = "more" if wish.wish > wish.now else "fewer" if wish.wish < wish.now else "same"
                self._decisions.add(1, role, word)
                if word != "same":
                    workers = "worker" if wish.wish == 1 else "workers"
                    log.info(
                        "would have %d %s %s instead of %d: %s", wish.wish, role, workers, wish.now, wish.why
                    )
        await self._write(told, now_s)

    async def _write(self, told: Told, now_s: float) -> None:
        """Where etcd is away this decision is missing from the history; the next one is not."""
        around = self.around
        lease = lease_id(around.rng.getrandbits(62) + 1)
        key = decision_key(around.settings.cluster, int(now_s * 1000))
        try:
            await around.store.hold(lease, KEPT_S, {key: msgspec.json.encode(told)})
        except (Down, Refused) as error:
            log.warning("a decision could not be written: %s", error)


def _load(minute: Minute) -> float:
    """The KV load of a decode worker."""
    now = minute.now
    total = now.get("dyno_kv_blocks{total}", 0)
    usage = now.get("dyno_kv_blocks{active}", 0) / total if total else 0.0
    requests = (now.get(f"dyno_engine_requests{{{state}}}", 0) for state in ("running", "waiting"))
    return scaling.kv_load(usage, *requests)


def _figures(minutes: list[Minute]) -> scaling.Figures:
    """What clients of all frontends felt in the last minute."""

    def rate(prefix: str) -> float:
        return round(
            sum(
                value / max(one.seconds, 1e-3)
                for one in minutes
                for key, value in one.moved.items()
                if key.partition("{")[0] == prefix
            ),
            3,
        )

    def spread(name: str) -> tuple[float | None, float | None]:
        told = [one.histograms[name] for one in minutes if name in one.histograms]
        return percentile(told, 0.5), percentile(told, 0.99)

    first, between = spread(names.FIRST_TOKEN.name), spread(names.INTER_TOKEN.name)
    return scaling.Figures(rate(names.REQUESTS.name), rate(names.ANSWER_TOKENS.name), *first, *between)

"""The decode worker's side of remote prefill: decide, push, wait, and go on alone when nothing comes.

In: a request. Out: what the engine needs to decode it, and a label that says who prefilled: `local` or
`remote:<node>/<unit>`. It never fails: whatever goes wrong ends in a local prefill.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container
from typing import Any

from dyno_runtime.bus.base import Down, Refused, Reply
from dyno_runtime.core.disagg import Limits, Local, Outlook, decide
from dyno_runtime.core.terms import mismatch, too_late
from dyno_runtime.engine.base import Engine, EngineError, Job, KvHolder, Transferring
from dyno_runtime.metrics import names
from dyno_runtime.roles.base import Surroundings
from dyno_runtime.settings import Disagg
from dyno_runtime.wire.codec import encode_task
from dyno_runtime.wire.kv import BlockHash
from dyno_runtime.wire.messages import Failure, Generate, Prefilled, PrefillTask, Wanted

log = logging.getLogger("dyno.decode")

DEPTH_S = 0.5
# Queue or last prefill worker lost: what was pulled before may still come back over the stream transport.
QUEUE_LOST_S = 1.0
FORCED_S = 3.0
LOOK_S = 0.2
ALONE_S = 4.0  # a worker that is restarted, or takes another's place, is there by then

Outcome = tuple[dict[str, Any] | None, str]
_Arrived = tuple[Prefilled, float]  # and when, by our clock
LOCAL: Outcome = (None, "local")


class Prefilling:
    """See the module; one for each decode worker."""

    def __init__(self, around: Surroundings, engine: Engine, held: Container[BlockHash]) -> None:
        self._around = around
        self._engine = engine
        self._held = held  # the blocks in the engine's own cache
        self._model = around.settings.model.name
        self._waiting: dict[str, asyncio.Future[_Arrived]] = {}
        self._watchers: dict[str, list[Reply]] = {}  # prefill workers at work for a request that waits
        self._prefills = around.meter.values(names.PREFILLS)
        self._remote_s = around.meter.histogram(names.REMOTE_PREFILL)

    def start(self) -> None:
        """Listen for prefill workers."""
        self._around.peers.on(Prefilled, self._on_prefilled)
        self._around.peers.on(Wanted, self._on_wanted)

    def stays(self, order: Generate) -> bool:
        """It is prefilled here, and that is known without asking anybody."""
        if self._limits.mode != "off":
            if order.prefill == "remote":
                return False
            # As if the queue were empty: whoever does not leave then, never does.
            if not isinstance(decide(self._limits, self._outlook_with(order, 0)), Local):
                return False
        self._prefills.add(1, "local")
        return True

    async def prefill(self, order: Generate) -> Outcome:
        """Have `order` prefilled elsewhere if that is better, and wait for it."""
        if order.prefill == "remote":
            await self._await_path()
        verdict = decide(self._limits, await self._outlook(order))
        if isinstance(verdict, Local):
            log.debug("%s: prefill stays local: %s", order.request, verdict.why)
            self._prefills.add(1, "local")
            return LOCAL
        begun_s = asyncio.get_running_loop().time()
        done: asyncio.Future[_Arrived] = asyncio.get_running_loop().create_future()
        self._waiting[order.request] = done
        try:
            outcome = await self._remote(order, done)
        finally:
            del self._waiting[order.request]
            for watcher in self._watchers.pop(order.request, ()):
                watcher.end()
        self._prefills.add(1, "local_after_remote" if outcome is LOCAL else "remote")
        self._remote_s.observe(asyncio.get_running_loop().time() - begun_s)
        return outcome

    @property
    def _disagg(self) -> Disagg:
        return self._around.live.disagg(self._model)

    @property
    def _limits(self) -> Limits:
        disagg = self._disagg
        return Limits(disagg.mode, disagg.max_local_prefill_length, disagg.max_prefill_queue_size)

    @property
    def _helpers(self) -> int:
        """How many prefill workers of this model could pull."""
        terms = self._terms
        workers = self._around.members.view.serving("prefill", self._model)
        return sum(mismatch(terms, one.terms) is None for one in workers)

    @property
    def _terms(self) -> dict[str, str]:
        return self._engine.terms if isinstance(self._engine, Transferring) else {}

    def refused(self) -> str | None:
        """Why nobody of those that would prefill for us may; None where somebody may, or nobody is there."""
        if self._limits.mode == "off" or not self._around.engine_ready.is_set() or self._helpers:
            return None
        for one in self._around.members.view.serving("prefill", self._model):
            why = mismatch(self._terms, one.terms)
            if why is not None:
                return f"{one.place} cannot prefill for this worker: {why}"
        return None

    async def _await_path(self) -> None:
        """Whoever asks for a remote prefill, a probe just after the start, gives it the time to be there."""
        around = self._around
        deadline_s = asyncio.get_running_loop().time() + FORCED_S
        while asyncio.get_running_loop().time() < deadline_s:
            if around.queue.up and around.queue_clear.is_set() and self._helpers:
                return
            await asyncio.sleep(0.02)

    async def _remote(self, order: Generate, done: asyncio.Future[_Arrived]) -> Outcome:
        around = self._around
        try:
            room = self._reserved(order)
        except EngineError as error:
            log.warning("%s: prefill stays local: %s", order.request, error)
            return LOCAL
        if isinstance(room, str):
            log.info("%s: prefill stays local: %s", order.request, room)
            return LOCAL
        task = PrefillTask(
            order.request, order.tokens, around.lease, around.own, room, order.salt, order.blocks
        )
        try:
            await around.queue.push(order.request, encode_task(task))
        except (Down, Refused) as error:
            log.warning("%s: prefill stays local: %s", order.request, error)
            return LOCAL
        if not await self._wait(done):
            log.warning("%s: no remote prefill in time; prefilling here", order.request)
            return LOCAL
        prefilled, arrived_s = done.result()
        if prefilled.error is not None:
            log.warning("%s: %s could not prefill: %s", order.request, prefilled.by, prefilled.error)
            return LOCAL
        lease_s = (prefilled.kv or {}).get("lease_s")
        if lease_s is not None and too_late(lease_s, asyncio.get_running_loop().time() - arrived_s):
            # Whatever stands in those blocks by now would be read without an error.
            log.warning("%s: the KV of %s came too late; prefilling here", order.request, prefilled.by)
            return LOCAL
        return prefilled.kv, f"remote:{prefilled.by}"

    def _reserved(self, order: Generate) -> dict[str, Any] | str | None:
        """Where the KV shall go, None where the engine need not know before, or why it cannot come."""
        if not isinstance(self._engine, KvHolder):
            return None
        blocks = order.blocks or None
        job = Job(order.request, order.tokens, order.sampling, None, order.answered, order.salt, blocks)
        return self._engine.reserve(job) or "there is no room for its KV now"

    async def _wait(self, done: asyncio.Future[_Arrived]) -> bool:
        down = asyncio.get_running_loop().create_task(self._lost())
        try:
            waits: list[asyncio.Future[Any]] = [done, down]
            await asyncio.wait(
                waits, timeout=self._disagg.prefill_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done.done() and down.done():
                await asyncio.wait([done], timeout=QUEUE_LOST_S)
        finally:
            down.cancel()
        return done.done()

    async def _lost(self) -> None:
        """Returns when the queue is down, or there has been no prefill worker that could pull for ALONE_S."""
        around = self._around
        alone_s = 0.0
        while alone_s < ALONE_S:
            alone_s = 0.0 if self._helpers else alone_s + LOOK_S
            try:
                async with asyncio.timeout(LOOK_S):
                    await around.queue_down.wait()
                return
            except TimeoutError:
                continue

    async def _outlook(self, order: Generate) -> Outlook:
        around = self._around
        depth = None
        if around.queue.up and around.queue_clear.is_set():
            try:
                async with asyncio.timeout(DEPTH_S):
                    depth = 0 if self._limits.mode == "always" else await around.queue.depth()
            except (Down, Refused, TimeoutError) as error:
                log.warning("the prefill queue cannot be asked: %s", error or "it does not answer")
        return self._outlook_with(order, depth)

    def _outlook_with(self, order: Generate, depth: int | None) -> Outlook:
        return Outlook(
            prompt_tokens=len(order.tokens),
            matched_tokens=max(order.matched_tokens if not order.blocks else 0, self._hit_tokens(order)),
            prefill_workers=self._helpers,
            queue_depth=depth,
            forced=order.prefill == "remote",
        )

    def _hit_tokens(self, order: Generate) -> int:
        """How many tokens of the prompt are in our own cache; better known here than at the router."""
        blocks = 0
        for block in order.blocks:
            if block not in self._held:
                break
            blocks += 1
        return blocks * self._around.settings.engine.block_size

    def _on_prefilled(self, prefilled: Prefilled, reply: Reply) -> None:
        # One that comes too late, or twice, has nobody waiting; the prefill worker need not know.
        waiting = self._waiting.get(prefilled.request)
        if waiting is not None and not waiting.done():
            waiting.set_result((prefilled, asyncio.get_running_loop().time()))
        reply.end()

    def _on_wanted(self, wanted: Wanted, reply: Reply) -> None:
        if wanted.request not in self._waiting:
            reply.end(Failure("not_found", "nobody here waits for this prefill"))
        elif wanted.until:
            self._watchers.setdefault(wanted.request, []).append(reply)
        else:
            reply.end()

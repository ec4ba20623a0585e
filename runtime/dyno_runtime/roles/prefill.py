"""The prefill worker: pulls tasks, computes their KV, tells the decode worker that waits, then acks.

In: the prefill queue. Out: `Prefilled` to the decode worker. An item is acked after the work, so one that this
process dies over is given to another; an item that nobody waits for any more is dropped before any work.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from dyno_runtime.bus.base import CallFailed, Down, Refused, Work
from dyno_runtime.bus.calls import Answer
from dyno_runtime.core.terms import mismatch
from dyno_runtime.engine.base import Engine, EngineError, Job, Transferring
from dyno_runtime.metrics import names
from dyno_runtime.roles.base import Part, Surroundings
from dyno_runtime.wire.codec import BadFrame, decode_task
from dyno_runtime.wire.messages import Body, Prefilled, PrefillTask, Wanted

log = logging.getLogger("dyno.prefill")

PULL_S = 1.0
TELL_S = 3.0
STILL_WORKING_S = 1.5
LONGEST_PAUSE_S = 2.0
LOOK_S = 2.0


class Unreached(Exception):
    """The decode worker that waits cannot be asked from here; another prefill worker may reach it."""


class Prefill(Part):
    """See the module."""

    name = "prefill"

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        assert around.engine is not None
        self._engine: Engine = around.engine
        self._slots = asyncio.Semaphore(around.engine.slots)
        self._tasks: set[asyncio.Task[None]] = set()
        self._unreached = 0  # tasks in a row
        self._pulled = around.meter.values(names.PREFILL_TASKS)
        self._took = around.meter.histogram(names.PREFILL)

    @property
    def in_flight(self) -> int:
        return len(self._tasks)

    async def run(self) -> None:
        if self.around.settings.disagg.mode == "off":
            return
        await self.around.engine_ready.wait()
        await self.around.queue_clear.wait()
        watch = asyncio.get_running_loop().create_task(self._watch_depth())
        try:
            await self._pull()
        finally:
            watch.cancel()

    async def _watch_depth(self) -> None:
        """For the metrics; where the queue cannot be asked, there is no figure."""
        depth = self.around.meter.values(names.PREFILL_QUEUE)
        while True:
            try:
                depth.put(await self.around.queue.depth())
            except (Down, Refused):
                depth.values.clear()
            await asyncio.sleep(LOOK_S)

    async def _pull(self) -> None:
        """Work off the queue until drained."""
        failures = 0
        while not self.draining:
            await self._slots.acquire()
            if self._unreached:
                # Whoever reaches the decode worker shall pull what was given back.
                await self._rest(self._unreached)
            try:
                work = await self.around.queue.pull(PULL_S)
                failures, self.problem = 0, None
            except (Down, Refused) as error:
                self._slots.release()
                failures += 1
                await self._pause(error, failures)
                continue
            if work is None:
                self._slots.release()
                continue
            task = asyncio.get_running_loop().create_task(self._work(work))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and task.exception() is not None:
            log.error("a prefill failed", exc_info=task.exception())

    async def _pause(self, error: Down | Refused, failures: int) -> None:
        log.debug("cannot pull: %s", error)
        self.problem = str(error) if isinstance(error, Refused) else None
        await self._rest(failures)

    async def _rest(self, failures: int) -> None:
        longest = min(LONGEST_PAUSE_S, 0.1 * 2 ** min(failures, 10))
        await asyncio.sleep(longest * self.around.rng.uniform(0.5, 1.0))

    async def _work(self, work: Work) -> None:
        beat = asyncio.get_running_loop().create_task(_keep_claim(work))
        try:
            task = decode_task(work.data)
            log.info("pulled %s", task.request)
            prefilled = await self._prefill_while_wanted(task) if await self._wanted(task) else None
            if prefilled is not None:
                await self._tell(task, prefilled)
            else:
                self._pulled.add(1, "dropped")
            await work.ack()
        except BadFrame as error:
            self._pulled.add(1, "dropped")
            log.warning("dropped a task: %s", error)
            await _quietly(work)
        except Unreached as error:
            self._unreached += 1
            self._pulled.add(1, "given_back")
            log.warning("gave a task back: %s", error)
            await _give_back(work)
        except (Down, Refused) as error:
            # The work is done and told; the item may come again and will find that nobody waits for it.
            log.info("could not ack a task: %s", error)
        except asyncio.CancelledError:
            # This process ends; another one need not wait until the claim runs out.
            self._pulled.add(1, "given_back")
            await _give_back(work)
            raise
        finally:
            beat.cancel()

    async def _prefill_while_wanted(self, task: PrefillTask) -> Prefilled | None:
        """None where nobody waits for it any more; then the engine is free at once."""
        computing = asyncio.get_running_loop().create_task(self._prefill(task))
        left = Answer()
        watch = self.around.peers.open(task.reply_to, Wanted(task.request, until=True), left)
        try:
            either: list[asyncio.Future[Any]] = [computing, left.done]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not computing.done() and _is_over(left.done):
                log.info("gave up %s: nobody waits for it any more", task.request)
                return None
            return await computing
        finally:
            watch.cancel()
            computing.cancel()

    async def _prefill(self, task: PrefillTask) -> Prefilled:
        by = self.around.place
        if isinstance(self._engine, Transferring):
            why = mismatch((task.kv or {}).get("terms", {}), self._engine.terms)
            if why is not None:
                return Prefilled(task.request, by, error=f"its KV cannot travel there: {why}")
        begun_s = asyncio.get_running_loop().time()
        try:
            kv = await self._engine.prefill(_job(task))
        except EngineError as error:
            self._pulled.add(1, "failed")
            return Prefilled(task.request, by, error=str(error))
        self._pulled.add(1, "done")
        self._took.observe(asyncio.get_running_loop().time() - begun_s)
        return Prefilled(task.request, by, kv=kv)

    async def _wanted(self, task: PrefillTask) -> bool:
        """False for what a dead process left behind, and for requests whose client has left. Raises Unreached."""
        try:
            await self.around.peers.ask(task.reply_to, Wanted(task.request), TELL_S)
        except CallFailed as error:
            known = ("decode", task.lease) in self.around.members.view.instances
            if known and error.failure.code != "not_found":
                raise Unreached(f"cannot ask {task.reply_to} about {task.request}: {error}") from error
            log.info("dropped task %s: %s", task.request, error)
            return False
        self._unreached = 0
        return True

    async def _tell(self, task: PrefillTask, prefilled: Prefilled) -> None:
        try:
            await self.around.peers.ask(task.reply_to, prefilled, TELL_S)
        except CallFailed as error:
            # It prefills by itself at its deadline; doing it again for a worker that is lost helps nobody.
            log.warning("could not tell %s about %s: %s", task.reply_to, task.request, error)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _is_over(left: asyncio.Future[Body | None]) -> bool:
    """A decode worker that cannot be reached for a moment may wait all the same."""
    error = left.exception()
    return error is None or (isinstance(error, CallFailed) and error.failure.code == "not_found")


def _job(task: PrefillTask) -> Job:
    """Only the prompt: its KV is wanted, not an answer."""
    return Job(task.request, task.tokens, kv=task.kv, salt=task.salt, blocks=task.blocks or None)


async def _keep_claim(work: Work) -> None:
    while True:
        await asyncio.sleep(STILL_WORKING_S)
        try:
            await work.still_working()
        except (Down, Refused) as error:
            log.info("could not prolong a task: %s", error)


async def _give_back(work: Work) -> None:
    try:
        await work.give_back()
    except (Down, Refused) as error:
        log.info("could not give a task back: %s", error)


async def _quietly(work: Work) -> None:
    try:
        await work.ack()
    except (Down, Refused) as error:
        log.info("could not drop a task: %s", error)

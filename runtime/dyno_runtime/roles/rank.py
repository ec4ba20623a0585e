"""The process of a rank: joins the head of its worker, runs its part of the engine, ends when the head does.

In: settings with a rank above 0. Out: an exit status, 0 after a stop that was asked for, 1 otherwise. The head may be
anywhere in its own start, or be the one of a worker that is ending: it is asked until it takes us. Ranks need not
watch one another, because the head ends when one of them does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from pathlib import Path
from random import Random

from dyno_runtime.bus.base import Refused
from dyno_runtime.bus.connect import make_transport
from dyno_runtime.bus.peers import Peers
from dyno_runtime.engine.base import EngineError
from dyno_runtime.engine.choose import make_rank
from dyno_runtime.engine.rank import RankEngine
from dyno_runtime.roles.health import EngineState, Health, HealthFile, RoleHealth
from dyno_runtime.roles.joining import Joining
from dyno_runtime.roles.life import Life
from dyno_runtime.settings import ProcessSettings
from dyno_runtime.wire.messages import Address
from dyno_runtime.wire.names import lease_id

log = logging.getLogger("dyno.rank")

CLOSE_S = 10.0


class RankProcess:
    """See the module. `serve` is the life; `stop` asks it to end."""

    def __init__(self, settings: ProcessSettings) -> None:
        lead = settings.parallel.lead
        assert lead is not None
        self.settings = settings
        self.lease = lease_id(secrets.randbits(62) + 1)
        self._life = Life(log, "ends with its head")
        self._state: EngineState = "loading"
        self._listening = False
        self._transport = make_transport(settings, self.lease)
        self._peers = Peers(self._transport)
        self._joining = Joining(
            settings.parallel.rank,
            f"{settings.node}/{settings.unit}",
            Address(lead.host, lead.port),
            self._peers,
            Random(self.lease),
            self._changed,
        )
        self._engine: RankEngine = make_rank(settings)
        self._health = HealthFile(Path(settings.health_path), self._look)

    async def serve(self) -> int:
        """Start, run until told to stop or unable to go on, shut down; the exit status."""
        loop = asyncio.get_running_loop()
        self._life.heed_signals()
        self._health.start()
        work = loop.create_task(self._run())
        asked = loop.create_task(self._asked())
        try:
            await asyncio.wait((work, asked), return_when=asyncio.FIRST_COMPLETED)
            if work.done() and (error := work.exception()) is not None:
                self._fail(error)
        finally:
            for task in (work, asked):
                task.cancel()
            await asyncio.gather(work, asked, return_exceptions=True)
            await self._shutdown()
        return self._life.over()

    def stop(self) -> None:
        """End once the head has; asked twice, at once."""
        self._life.stop()

    async def _asked(self) -> None:
        """A worker is stopped as a whole, and its head finishes what is in flight: we are needed until then."""
        await self._life.ending.wait()
        if self._joining.formed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.drain_s):
                    await self._joining.lost()

    async def _run(self) -> None:
        await self._transport.listen(self._peers.serve)
        self._listening = True
        self._changed()
        await self._joining.join()
        loading = asyncio.ensure_future(self._engine.load(self._joining.engine_id))
        lost = asyncio.ensure_future(self._joining.lost())
        try:
            await asyncio.wait((loading, lost), return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                loading.result()
                self._state = "ready"
                log.info("this rank of the engine is ready")
                self._changed()
                died = asyncio.ensure_future(self._died())
                await asyncio.wait((died, lost), return_when=asyncio.FIRST_COMPLETED)
                died.cancel()
                if died.done() and not died.cancelled():
                    died.result()
            if not self._life.ending.is_set():
                raise EngineError(f"{lost.result()}; the worker starts anew as one")
        finally:
            for task in (loading, lost):
                task.cancel()

    async def _died(self) -> None:
        raise EngineError(await self._engine.ended())

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, Refused | EngineError):
            self._life.fail(str(error))
        else:
            log.error("this rank broke", exc_info=error)
            self._life.fail(f"{type(error).__name__}: {error}")
        if self._state == "loading":
            self._state = "failed"

    async def _shutdown(self) -> None:
        # First: the head is to know at once, and the engine may take its time.
        await self._transport.close()
        self._listening = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._engine.close()
        self._health.stop()

    def _changed(self) -> None:
        self._health.changed()

    def _look(self) -> Health:
        rank = RoleHealth(
            port=self._listening,
            registered=self._joining.formed,
            engine=self._state,
            lease=self.lease,
            problem=self._life.fatal or self._joining.problem,
        )
        return Health(
            unit=self.settings.unit, pid=os.getpid(), beat_s=0.0, roles={"rank": rank}, sees={}, bus={}
        )

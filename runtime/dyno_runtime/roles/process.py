"""One process of a cluster: its roles, and what they share: transport, registry, queue, engine, health file.

In: settings. Out: an exit status, 0 after a drain that was asked for, 1 where the process cannot go on. Peers may be
anywhere in their own start; nothing here waits for them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from pathlib import Path
from random import Random

from dyno_runtime.bus.base import Refused
from dyno_runtime.bus.connect import make_queue, make_store, make_transport, own_address
from dyno_runtime.bus.keys import Keys
from dyno_runtime.bus.peers import Peers
from dyno_runtime.bus.registry import Lease, Registry
from dyno_runtime.core.blocks import block_hashes
from dyno_runtime.engine.base import EngineError, Mortal, Transferring
from dyno_runtime.engine.choose import engine_for
from dyno_runtime.metrics import names
from dyno_runtime.roles.base import Part, Surroundings
from dyno_runtime.roles.clearing import clear_queue
from dyno_runtime.roles.decode import Decode
from dyno_runtime.roles.frontend import Frontend
from dyno_runtime.roles.health import EngineState, Health, HealthFile, RoleHealth
from dyno_runtime.roles.life import Life
from dyno_runtime.roles.live import Live
from dyno_runtime.roles.measuring import measure_engine, measure_process
from dyno_runtime.roles.members import Members
from dyno_runtime.roles.metering import Metering
from dyno_runtime.roles.names import NameKeeper, Names
from dyno_runtime.roles.planner import Planner
from dyno_runtime.roles.prefill import Prefill
from dyno_runtime.roles.processor import Processor
from dyno_runtime.roles.router import Router
from dyno_runtime.roles.settling import settle
from dyno_runtime.roles.standing import Standing
from dyno_runtime.settings import ProcessSettings
from dyno_runtime.wire.messages import Instance, Measure
from dyno_runtime.wire.names import config_prefix, lease_id, models_prefix

log = logging.getLogger("dyno.process")

PARTS: dict[str, type[Part]] = {
    "frontend": Frontend,
    "processor": Processor,
    "router": Router,
    "decode": Decode,
    "prefill": Prefill,
    "planner": Planner,
}
WITH_ENGINE = frozenset({"decode", "prefill"})
WITH_TEXT = frozenset({"frontend", "processor"})


class Process:
    """See the module. `serve` is the life; `stop` asks it to end."""

    def __init__(self, settings: ProcessSettings) -> None:
        self.settings = settings
        self.lease = lease_id(secrets.randbits(62) + 1)
        self._rng = Random(self.lease)
        self._life = Life(log, "draining")
        self._listening = False
        has_engine = not WITH_ENGINE.isdisjoint(settings.roles)
        # A lease is of one start of one process, so its name will do for the engine, too.
        self._engine = engine_for(settings, block_hashes, self.lease) if has_engine else None
        self._engine_state: EngineState = "loading" if has_engine else "none"
        self._engine_problem: str | None = None
        self._transport = make_transport(settings, self.lease)
        self._queue_down = asyncio.Event()
        self._queue = make_queue(settings, self._changed)
        lease = Lease(settings.cluster, self.lease, settings.lease_ttl_s, settings.lease_grace_s)
        self._members = Members(self._members_changed)
        self._store = make_store(settings)
        self._registry = Registry(self._store, lease, self._rng, self._members)
        self._live = Live(settings, self._config_changed)
        self._names = Names(self._members_changed)
        self._peers = Peers(self._transport)
        self._metering = Metering(settings, self._measure)
        self._around = Surroundings(
            settings=settings,
            lease=self.lease,
            own=own_address(settings),
            peers=self._peers,
            members=self._members,
            queue=self._queue,
            rng=self._rng,
            engine=self._engine,
            engine_ready=asyncio.Event(),
            queue_down=self._queue_down,
            queue_clear=asyncio.Event(),
            live=self._live,
            names=self._names,
            metering=self._metering,
            store=self._store,
        )
        self._standing = Standing(
            settings.parallel, self._peers, self.lease, lost=self._life.fail, changed=self._changed
        )
        self._parts: list[Part] = [PARTS[role](self._around) for role in settings.roles]
        self._health = HealthFile(Path(settings.health_path), self._look)
        self._tasks: list[asyncio.Task[None]] = []

    async def serve(self) -> int:
        """Start, run until told to stop or unable to go on, shut down; the exit status."""
        try:
            await self._startup()
            await self._life.ending.wait()
        except (Refused, EngineError) as error:
            self._life.fail(str(error))
        finally:
            await self._shutdown()
        return self._life.over()

    def stop(self) -> None:
        """Drain and end; asked twice, end without draining."""
        self._life.stop()

    # ---- the beats

    async def _startup(self) -> None:
        self._life.heed_signals()
        self._health.start()
        await self._metering.start()
        self._peers.on(Measure, self._metering.on_measure)
        await self._transport.listen(self._peers.serve)
        for part in self._parts:
            await part.start()
        self._listening = True
        # First: an engine that is there at once is registered as ready in the first place.
        self._spawn(self._load_engine())
        self._prepare_text()
        self._announce()
        self._registry.start()
        for task in self._registry.tasks:
            task.add_done_callback(self._check)
        self._spawn(self._await_registration())
        self._spawn(self._await_lost())
        self._spawn(self._clear_queue())
        self._watch_keys()
        for part in self._parts:
            self._spawn(part.run())
        # After the ports and the registry are under way: its import costs a tenth of a second.
        self._queue.start()
        self._changed()
        settle()

    def _watch_keys(self) -> None:
        """What may change while the cluster runs: names of models, and the settings that are live."""
        cluster = self.settings.cluster
        self._spawn(Keys(self._store, models_prefix(cluster), self._rng, self._names).watch())
        self._spawn(Keys(self._store, config_prefix(cluster), self._rng, self._live).watch())
        if "decode" in self.settings.roles:
            keeper = NameKeeper(cluster, self.settings.model.name, self._store, self._names)
            self._spawn(keeper.keep())

    async def _shutdown(self) -> None:
        self._standing.end()
        if self._registry.tasks:
            await self._registry.withdraw()
        for part in self._parts:
            part.drain()
        await self._drained()
        for part in self._parts:
            await part.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._engine is not None:
            await self._engine.close()
        self._around.desk.close()
        await self._queue.close()
        await self._transport.close()
        await self._registry.close()
        await self._metering.stop()
        self._listening = False
        self._health.stop()

    async def _drained(self) -> None:
        """Wait until nothing is in flight, at most `drain_s`; what then is left is cut."""
        deadline_s = asyncio.get_running_loop().time() + self.settings.drain_s
        while left := sum(part.in_flight for part in self._parts):
            if self._life.fatal is not None or asyncio.get_running_loop().time() > deadline_s:
                log.warning("cutting %d requests that are in flight", left)
                return
            await asyncio.sleep(0.02)

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        task.add_done_callback(self._check)
        self._tasks.append(task)

    def _check(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            if not self._life.ending.is_set():
                self._life.fail("a part of this process was cancelled, and nobody asked for its end")
        elif (error := task.exception()) is not None:
            log.error("a part of this process broke", exc_info=error)
            self._life.fail(f"{type(error).__name__}: {error}")

    # ---- what can go wrong, and right

    async def _load_engine(self) -> None:
        if self._engine is None:
            return
        try:
            await self._standing.there()
            await self._engine.load()
        except EngineError as error:
            self._engine_state, self._engine_problem = "failed", str(error)
            self._life.fail(f"the engine could not be loaded: {error}")
            return
        self._engine_state = "ready"
        self._around.engine_ready.set()
        log.info("the engine is ready")
        self._announce()
        self._changed()
        if isinstance(self._engine, Mortal):
            self._life.fail(f"the engine is gone: {await self._engine.ended()}")

    def _prepare_text(self) -> None:
        model, roles = self.settings.model, self.settings.roles
        if (
            model.path is not None
            and self.settings.engine.kind != "hello"
            and not WITH_TEXT.isdisjoint(roles)
        ):
            self._spawn(self._around.desk.prepare(model.path, self._text_changed))

    def _text_changed(self) -> None:
        self._announce()
        self._changed()

    async def _await_registration(self) -> None:
        """Give up if etcd stays away from the start; once it was there it is waited for without end."""
        try:
            async with asyncio.timeout(self.settings.start_budget_s):
                await self._registry.registered.wait()
        except TimeoutError:
            reason = self._registry.problem or "etcd does not answer"
            self._life.fail(f"not registered within {self.settings.start_budget_s:g} s: {reason}")

    async def _await_lost(self) -> None:
        await self._registry.lost.wait()
        self._life.fail(f"the lease could not be made again: {self._registry.problem}")

    async def _clear_queue(self) -> None:
        if any(self._uses_queue(part) for part in self._parts):
            model = self.settings.model.name
            await clear_queue(self._queue, self._registry, model, self.lease, self._rng)
            self._around.queue_clear.set()
            self._announce()

    def _announce(self) -> None:
        """Register what this process is now."""
        settings = self.settings
        self._registry.announce(
            *(
                Instance(
                    role=part.name,
                    lease=self.lease,
                    node=settings.node,
                    unit=settings.unit,
                    stream=self._around.own,
                    model=settings.model.name,
                    path=settings.model.path,
                    engine=settings.engine.kind,
                    block_size=settings.engine.block_size,
                    max_model_len=settings.engine.max_model_len,
                    capabilities=self._capabilities(part),
                    terms=self._terms(part),
                    state="ready" if self._is_ready(part) else "loading",
                )
                for part in self._parts
            )
        )

    def _capabilities(self, part: Part) -> tuple[str, ...]:
        """What the engine of this role heeds of a request."""
        known = self._engine.capabilities if self._engine is not None and part.name in WITH_ENGINE else ()
        return tuple(sorted(known))

    def _terms(self, part: Part) -> dict[str, str]:
        """What others have to agree on before its engine exchanges KV with them."""
        exchanges = part.name in WITH_ENGINE and isinstance(self._engine, Transferring)
        return self._engine.terms if exchanges and isinstance(self._engine, Transferring) else {}

    def _is_ready(self, part: Part) -> bool:
        """It may be sent work; a prefill worker that cannot pull yet would only make decode wait."""
        pulls = part.name != "prefill" or not self._uses_queue(part) or self._around.queue_clear.is_set()
        return self._engine_of(part) in ("none", "ready") and pulls

    def _engine_of(self, part: Part) -> EngineState:
        if part.name in WITH_ENGINE:
            return self._engine_state
        # What an engine is to a worker, a tokenizer is to these.
        return self._around.desk.state if part.name in WITH_TEXT else "none"

    # ---- metrics and health

    def _measure(self) -> None:
        meter = self._metering.meter
        view, up = self._members.view, {"etcd": self._registry.up, "nats": self._queue.up}
        measure_process(meter, self.settings, view, up, registered=self._registry.held)
        if self._engine is not None:
            measure_engine(meter, self._engine, self._engine_state)
        for part in self._parts:
            meter.values(names.IN_FLIGHT).put(part.in_flight, part.name)
            part.measure()

    def _changed(self) -> None:
        if self._queue.up:
            self._queue_down.clear()
        else:
            self._queue_down.set()
        self._health.changed()

    def _members_changed(self) -> None:
        for part in self._parts:
            part.view_changed()
        self._health.changed()

    def _config_changed(self) -> None:
        for part in self._parts:
            part.config_changed()
        self._health.changed()

    def _look(self) -> Health:
        return Health(
            unit=self.settings.unit,
            pid=os.getpid(),
            beat_s=0.0,
            roles={part.name: self._role_health(part) for part in self._parts},
            sees=self._members.view.counts(),
            bus={
                "etcd": "up" if self._registry.up else "down",
                "nats": "up" if self._queue.up else "down",
            },
        )

    def _role_health(self, part: Part) -> RoleHealth:
        queue_problem = self._queue.problem if self._uses_queue(part) else None
        problems = (
            self._life.fatal,
            self._engine_problem,
            self._standing.problem,
            part.problem,
            self._around.desk.problem if part.name in WITH_TEXT else None,
            self._registry.problem,
            queue_problem,
            self._live.problem,
        )
        return RoleHealth(
            port=self._listening,
            registered=self._registry.held,
            engine=self._engine_of(part),
            lease=self.lease,
            problem=next((problem for problem in problems if problem), None),
        )

    def _uses_queue(self, part: Part) -> bool:
        return self.settings.disagg.mode != "off" and part.name in WITH_ENGINE

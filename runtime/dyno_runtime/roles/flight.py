"""One answer on its way: to one decode worker after another, until it is whole or nothing is left to try.

In: an `Order`, a way to choose a worker, the caller's sink. Out: the worker's `Delta`s, then one end. An attempt that
fails before its first token is sent elsewhere as it was; one that fails later goes on elsewhere from the tokens that
came, so that the caller sees one unbroken answer. No task, unless a router in another process has to be asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol

import msgspec

from dyno_runtime.bus.base import Call, CallFailed, Sink
from dyno_runtime.core.session import GiveUp, Session, answered, failed, sent
from dyno_runtime.roles.journey import Suspects
from dyno_runtime.wire.kv import BlockHash
from dyno_runtime.wire.messages import Address, Body, Delta, Failure, Generate, Instance, Token
from dyno_runtime.wire.sampling import Sampling

log = logging.getLogger("dyno.flight")

ANYWHERE = Session(resumable=True)
PINNED = Session(pinned=True, resumable=True)


class Order(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What is wanted. `model` is the workers' name of it, `text` the prompt's, for `similar`; see `Generate`."""

    id: str
    model: str
    tokens: list[Token]
    sampling: Sampling = Sampling()
    text: str = ""
    salt: BlockHash = 0
    blocks: list[BlockHash] = []
    probe: bool = False
    target: str | None = None
    prefill: Literal["auto", "remote"] = "auto"


class Picked(msgspec.Struct, frozen=True, gc=False):
    """A worker, and how many tokens of the prompt the router believes it holds."""

    worker: Instance
    matched_tokens: int = 0


class Tower(Protocol):
    """Who sends flights off."""

    suspects: Suspects
    now_s: Callable[[], float]  # the event loop's time

    def pick(self, order: Order, session: Session) -> Picked | Coroutine[Any, Any, Picked]:
        """Where to. Raises CallFailed."""

    def open(self, to: Address, body: Body, sink: Sink) -> Call:
        """Send it."""

    def begun(self, order: Order) -> None:
        """Its first token came."""

    def moved(self, failure: Failure, *, begun: bool) -> None:
        """Its worker failed, and it goes to another one: from its beginning, or from where it is."""

    def ended(self, order: Order) -> None:
        """It is over, however it ended; called once for each flight."""


class Flight:
    """See the module. `worker` is where the current attempt went; it is a `Call` and a `Sink` itself."""

    __slots__ = (
        "_attempt",
        "_call",
        "_failure",
        "_fresh",
        "_made",
        "_order",
        "_session",
        "_sink",
        "_task",
        "_tower",
        "first_s",
        "worker",
    )

    def __init__(self, tower: Tower, order: Order, sink: Sink) -> None:
        self.worker: Instance | None = None
        self.first_s = 0.0  # when its first token came, by the loop's clock
        self._tower = tower
        self._order = order
        self._sink: Sink | None = sink
        self._session = ANYWHERE if order.target is None else PINNED
        self._attempt = 0
        self._made: list[Token] = []
        self._fresh = True  # this attempt has told nothing yet
        self._failure: Failure | None = None
        self._call: Call | None = None
        self._task: asyncio.Task[Picked] | None = None

    @property
    def prompt(self) -> list[Token]:
        """The tokens of its prompt, the very list."""
        return self._order.tokens

    def start(self) -> None:
        """Send it off. What fails, fails through the sink, perhaps before this returns."""
        try:
            picked = self._tower.pick(self._order, self._session)
        except CallFailed as error:
            self._refused(error.failure)
            return
        if isinstance(picked, Picked):
            self._send(picked)
        else:
            self._task = asyncio.get_running_loop().create_task(picked)
            self._task.add_done_callback(self._picked)

    def _picked(self, task: asyncio.Task[Picked]) -> None:
        if task.cancelled() or self._sink is None:
            return
        error = task.exception()
        if error is None:
            self._send(task.result())
        elif isinstance(error, CallFailed):
            self._refused(error.failure)
        else:
            log.error("choosing a worker failed", exc_info=error)
            self._finish(Failure("engine", "choosing a worker failed; the log says why"))

    def _refused(self, failure: Failure) -> None:
        """Nobody is left; the last one's own words say more than that."""
        known = self._failure
        self._finish(known if known is not None and failure.code == "no_worker" else failure)

    def _send(self, picked: Picked) -> None:
        self._session = sent(self._session)
        self._fresh = True
        self._attempt += 1
        self.worker = picked.worker
        order = self._continued(picked.matched_tokens)
        self._call = self._tower.open(picked.worker.stream, order, self)

    def _continued(self, matched_tokens: int) -> Generate:
        """The order, from where the answer is."""
        order, made, sampling = self._order, self._made, self._order.sampling
        tokens = order.tokens
        if made:
            tokens = tokens + made
            most = sampling.max_tokens
            sampling = msgspec.structs.replace(
                sampling,
                max_tokens=None if most is None else most - len(made),
                min_tokens=max(0, sampling.min_tokens - len(made)),
            )
        # Another name each time: the prefill queue takes a name once, and a worker may still have the last attempt.
        name = order.id if self._attempt == 1 else f"{order.id}~{self._attempt}"
        return Generate(
            name, tokens, order.prefill, matched_tokens, sampling, len(made), order.salt, order.blocks
        )

    # ---- Sink

    def item(self, body: Body) -> None:
        if body.__class__ is not Delta:
            return
        if self._fresh:
            self._fresh = False
            if not self._made:
                self.first_s = self._tower.now_s()
            if body.finish is None:
                # An answer that comes whole is never among those that run.
                self._tower.begun(self._order)
                self._session = answered(self._session)
        self._made += body.tokens
        sink = self._sink
        if sink is not None:
            sink.item(body)
            if body.finish is not None:
                self._finish(None)

    def end(self, failure: Failure | None) -> None:
        self._call = None
        if self._sink is None or self.worker is None:
            return
        if failure is None:
            self._finish(Failure("engine", "the worker ended its answer without a reason"))
            return
        if failure.code == "peer_lost":
            self._tower.suspects.add(self.worker)
        verdict = failed(self._session, self.worker.lease, failure)
        if isinstance(verdict, GiveUp):
            self._finish(verdict.failure)
            return
        most = self._order.sampling.max_tokens
        if most is not None and len(self._made) >= most:
            self._sink.item(Delta([], "length"))
            self._finish(None)
            return
        far = f"after {len(self._made)} tokens" if self._made else "before its first byte"
        log.info("%s failed %s (%s); retrying", self.worker.place, far, failure.message)
        self._tower.moved(failure, begun=bool(self._made))
        self._session = verdict.session
        self._failure = failure
        self.start()

    # ---- Call

    def cancel(self) -> None:
        if self._sink is None:
            return
        self._sink = None
        if self._task is not None:
            self._task.cancel()
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        self._tower.ended(self._order)

    def _finish(self, failure: Failure | None) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            self._tower.ended(self._order)
            sink.end(failure)

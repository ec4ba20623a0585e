"""From tokens to a worker: what a process does that sends requests to decode workers.

In: an `Order`, or an `Ask` of /generate. Out: a `Flight`. The worker is the one that the request names, else the one
that a router chooses, else, where no router answers, the next in turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from dyno_runtime.bus.base import Call, CallFailed, Sink
from dyno_runtime.core.blocks import block_hashes, salt
from dyno_runtime.core.bytelevel import Decoder, encode
from dyno_runtime.core.session import Session
from dyno_runtime.core.view import View
from dyno_runtime.metrics import names
from dyno_runtime.roles.base import Surroundings
from dyno_runtime.roles.flight import Flight, Order, Picked
from dyno_runtime.roles.journey import Suspects
from dyno_runtime.roles.steering import Steering
from dyno_runtime.wire.messages import (
    Address,
    Ask,
    Body,
    Choose,
    Chosen,
    Delta,
    Failure,
    Instance,
    LeaseId,
    Text,
)

NO_WORKER = Failure("no_worker", "there is no decode worker that could take the request")


class Dispatcher:
    """See the module; one for each process that dispatches. It is a `Tower`."""

    def __init__(self, around: Surroundings) -> None:
        self.suspects = Suspects()
        self.now_s = asyncio.get_running_loop().time
        self.steering = Steering(around, self.suspects)
        self._around = around
        self._retries = around.meter.values(names.RETRIES)
        self._migrations = around.meter.values(names.MIGRATIONS)
        self._turn = 0
        self._seen: View | None = None
        self._workers: dict[str, dict[LeaseId, Instance]] = {}
        self._routers = False

    def send(self, order: Order, sink: Sink) -> Flight:
        """A flight that is not started yet."""
        return Flight(self, order, sink)

    # ---- Tower

    def open(self, to: Address, body: Body, sink: Sink) -> Call:
        return self._around.peers.open(to, body, sink)

    def begun(self, order: Order) -> None:
        self.steering.begun(order.id)

    def moved(self, failure: Failure, *, begun: bool) -> None:
        (self._migrations if begun else self._retries).add(1, failure.code)

    def ended(self, order: Order) -> None:
        self.steering.ended(order.id)

    def pick(self, order: Order, session: Session) -> Picked | Coroutine[Any, Any, Picked]:
        view = self._around.members.view
        if view is not self._seen:
            self._look(view)
        if order.target is not None:
            named = view.find("decode", order.target)
            if named is None:
                raise CallFailed(Failure("not_found", f"there is no decode worker {order.target}"))
            return Picked(named)
        workers = self._workers.get(order.model)
        if not workers:
            raise CallFailed(NO_WORKER)
        suspects = self.suspects.leases()
        out = session.excluded | suspects if suspects else session.excluded
        if out and out.issuperset(workers):
            # Suspicion is not knowledge: whoever may be dead is tried before nobody is.
            out = session.excluded
            if out.issuperset(workers):
                raise CallFailed(NO_WORKER)
        if not self.steering.here and not self._routers:
            return Picked(self._in_turn(workers, out))
        choose = Choose(
            order.text, tuple(out), order.probe, order.id, order.model, len(order.tokens), order.blocks
        )
        if self.steering.here:
            return self._picked(self.steering.choose_here(choose), workers, out)
        return self._ask(choose, workers, out)

    async def _ask(
        self, choose: Choose, workers: dict[LeaseId, Instance], out: frozenset[LeaseId] | set[LeaseId]
    ) -> Picked:
        return self._picked(await self.steering.choose(choose), workers, out)

    # ---- within

    def _look(self, view: View) -> None:
        self._seen = view
        self._workers = {}
        for one in view.ready("decode"):
            self._workers.setdefault(one.model, {})[one.lease] = one
        self._routers = bool(view.ready("router"))

    def _picked(
        self,
        chosen: Chosen | None,
        workers: dict[LeaseId, Instance],
        out: frozenset[LeaseId] | set[LeaseId],
    ) -> Picked:
        worker = None if chosen is None else workers.get(chosen.worker)
        if chosen is None or worker is None:
            return Picked(self._in_turn(workers, out))
        return Picked(worker, chosen.matched_tokens)

    def _in_turn(self, workers: dict[LeaseId, Instance], out: frozenset[LeaseId] | set[LeaseId]) -> Instance:
        able = [one for lease, one in workers.items() if lease not in out]
        self._turn += 1
        return able[self._turn % len(able)]

    # ---- /generate

    def open_ask(self, ask: Ask, sink: Sink) -> Call | None:
        """Answer `ask` into `sink`. None where it was refused, and the sink told so, at once."""
        settings = self._around.settings
        tokens = encode(ask.prompt)
        longest = settings.engine.max_model_len
        if len(tokens) > longest:
            message = f"the prompt is {len(tokens)} tokens long; this model takes at most {longest}"
            sink.end(Failure("bad_request", message))
            return None
        model = settings.model.name
        root = salt(model)
        order = Order(
            ask.request,
            model,
            tokens,
            text=ask.prompt,
            salt=root,
            blocks=block_hashes(tokens, settings.engine.block_size, root),
            probe=ask.probe,
            target=ask.target,
            prefill=ask.prefill,
        )
        answer = _TextSink(sink)
        flight = answer.flight = self.send(order, answer)
        flight.start()
        return flight


class _TextSink:
    """Tokens of the worker in, text for the caller out."""

    def __init__(self, sink: Sink) -> None:
        self.flight: Flight | None = None
        self._sink = sink
        self._decoder = Decoder()
        self._begun = False

    def item(self, body: Body) -> None:
        if not isinstance(body, Delta):
            return
        text = self._decoder.feed(body.tokens, final=body.finish is not None)
        worker = None
        if not self._begun and self.flight is not None and self.flight.worker is not None:
            worker = self.flight.worker.place
        self._begun = True
        self._sink.item(Text(text, body.finish, worker, body.prefill))

    def end(self, failure: Failure | None) -> None:
        self._sink.end(failure)

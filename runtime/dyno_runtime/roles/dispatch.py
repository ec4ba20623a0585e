"""From text to a worker and back: what a processor does, and what a frontend does where there is no processor.

In: an `Ask`. Out: `Text` pieces. The worker is the one that the request names, else the one that a router
chooses, else, where no router answers, the next in turn.
"""

from __future__ import annotations

from dyno_runtime.bus.base import CallFailed, Sink
from dyno_runtime.core.bytelevel import Decoder, encode
from dyno_runtime.core.session import Session
from dyno_runtime.roles.base import Surroundings
from dyno_runtime.roles.journey import Journey, Suspects
from dyno_runtime.wire.messages import Ask, Body, Choose, Chosen, Delta, Failure, Generate, Instance, Text

CHOOSE_S = 1.0


class Dispatcher:
    """See the module; one for each process that dispatches."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._turn = 0
        self._suspects = Suspects()

    def open(self, ask: Ask, sink: Sink) -> Journey | None:
        """Answer `ask` into `sink`. None where it was refused, and the sink told so, at once."""
        tokens = encode(ask.prompt)
        longest = self._around.settings.engine.max_model_len
        if len(tokens) > longest:
            message = f"the prompt is {len(tokens)} tokens long; this model takes at most {longest}"
            sink.end(Failure("bad_request", message))
            return None
        order = Generate(ask.request, tokens, ask.prefill)
        answer = _TextSink(sink)

        async def pick(session: Session) -> Instance:
            return await self._worker(ask, session)

        pinned = ask.target is not None
        answer.journey = Journey(self._around.peers, pick, order, answer, self._suspects, pinned=pinned)
        return answer.journey

    async def _worker(self, ask: Ask, session: Session) -> Instance:
        view = self._around.members.view
        if ask.target is not None:
            named = view.find("decode", ask.target)
            if named is None:
                raise CallFailed(Failure("not_found", f"there is no decode worker {ask.target}"))
            return named
        workers = self._suspects.without(view.ready("decode", session.excluded))
        if not workers:
            raise CallFailed(Failure("no_worker", "there is no decode worker that could take the request"))
        return await self._routed(ask, session, workers) or self._in_turn(workers)

    async def _routed(self, ask: Ask, session: Session, workers: list[Instance]) -> Instance | None:
        excluded = session.excluded | self._suspects.leases()
        choose = Choose(ask.prompt, tuple(excluded), ask.probe)
        # All processors ask the same router first, so that replicas of it need not agree on every request.
        for router in self._suspects.without(self._around.members.view.ready("router")):
            try:
                answer = await self._around.peers.ask(router.stream, choose, CHOOSE_S)
            except CallFailed as error:
                if error.failure.code in ("peer_lost", "timeout"):
                    self._suspects.add(router)
                continue
            if isinstance(answer, Chosen):
                return next((one for one in workers if one.lease == answer.worker), None)
        return None

    def _in_turn(self, workers: list[Instance]) -> Instance:
        self._turn += 1
        return workers[self._turn % len(workers)]


class _TextSink:
    """Tokens of the worker in, text for the caller out."""

    def __init__(self, sink: Sink) -> None:
        self.journey: Journey | None = None
        self._sink = sink
        self._decoder = Decoder()
        self._begun = False
        self._whole = False

    def item(self, body: Body) -> None:
        if not isinstance(body, Delta):
            return
        text = self._decoder.feed(body.tokens, final=body.finish is not None)
        worker = None
        if not self._begun and self.journey is not None and self.journey.instance is not None:
            worker = self.journey.instance.place
        self._begun = True
        self._whole = body.finish is not None
        self._sink.item(Text(text, body.finish, worker, body.prefill))

    def end(self, failure: Failure | None) -> None:
        # A worker that dies between its last token and its goodbye has answered.
        self._sink.end(None if self._whole else failure)

"""The router: says which worker takes a prompt, and why, for every model of the cluster.

In: `Choose` and `Went` from processors (called directly where they share the process), what workers tell, `Learned`
from its replicas. Out: `Chosen`, or why nobody may take it. Each router follows every decode worker by itself, so
several of them route alike.
"""

from __future__ import annotations

import asyncio
from typing import Any

from dyno_runtime.bus.base import Reply
from dyno_runtime.core.chooser import Chooser, Limits, Refusal
from dyno_runtime.core.policies import Request
from dyno_runtime.core.similar import COMPARED_CHARS
from dyno_runtime.metrics import names
from dyno_runtime.roles.base import DRAINING, Part, Surroundings
from dyno_runtime.roles.explaining import explained
from dyno_runtime.roles.following import Following
from dyno_runtime.wire.messages import (
    Body,
    Choose,
    Chosen,
    Explain,
    Explained,
    Failure,
    Instance,
    Learned,
    LeaseId,
    Went,
)

TICK_S = 0.25
NO_MODEL = "the router knows of no decode worker"


class Router(Part):
    """See the module."""

    name = "router"

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self.choosers: dict[str, Chooser] = {}
        self._following: dict[LeaseId, Following] = {}
        self._open: dict[str, tuple[str, float]] = {}  # the model, and when it is over at the latest
        self._replicas: set[LeaseId] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._now_s = asyncio.get_running_loop().time
        self._asked_blocks = self._matched_blocks = self._routed = 0
        around.beside.router = self

    async def start(self) -> None:
        peers = self.around.peers
        peers.on(Choose, self._on_choose)
        peers.on(Went, self._on_went)
        peers.on(Explain, self._on_explain)
        peers.on(Learned, self._on_learned)
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    @property
    def in_flight(self) -> int:
        """Nothing is lost with a router: a choice is answered at once."""
        return 0

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for following in self._following.values():
            following.close()
        self._following.clear()

    # ---- choosing

    def choose(self, choose: Choose) -> Chosen | Failure:
        """Which worker takes it. A request with an id counts until `ended`."""
        chooser = self._chooser_of(choose)
        if chooser is None:
            return Failure("no_worker", NO_MODEL)
        request = _request(choose, self.around.settings.model.name)
        if choose.probe:
            choice, _ = chooser.explain(request)
        else:
            choice = chooser.choose(request)
        if isinstance(choice, Refusal):
            self.around.meter.values(names.UNROUTED).add(1, choice.code)
            return Failure(choice.code, choice.why)
        if not choose.probe:
            self._routed += 1
            self._asked_blocks += len(request.blocks)
            self._matched_blocks += choice.matched
            now_s = self._now_s()
            if request.id:
                chooser.routed(request, choice, now_s)
                self._open[request.id] = (request.model, now_s + self.around.settings.request_timeout_s)
            if choice.teaches:
                self._teach(chooser, choice.worker, request.prompt)
        return Chosen(choice.worker, choice.matched * chooser.block_size)

    def begun(self, request: str) -> None:
        """Its first token came."""
        known = self._open.get(request)
        if known is not None and known[0] in self.choosers:
            self.choosers[known[0]].begun(request, self._now_s())

    def ended(self, request: str) -> None:
        """It is over."""
        known = self._open.pop(request, None)
        if known is not None and known[0] in self.choosers:
            self.choosers[known[0]].ended(request, self._now_s())

    def explain(self, choose: Choose) -> dict[str, Any]:
        """Where it would go, and how every worker stands; leaves no trace."""
        model = choose.model or self.around.settings.model.name
        chooser = self.choosers.get(model)
        if chooser is None:
            return {"model": model, "worker": None, "why": NO_MODEL, "workers": []}
        places = {lease: one.instance.place for lease, one in self._following.items()}
        return explained(chooser, _request(choose, model), places)

    def _chooser_of(self, choose: Choose) -> Chooser | None:
        return self.choosers.get(choose.model or self.around.settings.model.name)

    def measure(self) -> None:
        meter = self.around.meter
        meter.values(names.ROUTED).put(self._routed)
        meter.values(names.ASKED_BLOCKS).put(self._asked_blocks)
        meter.values(names.MATCHED_BLOCKS).put(self._matched_blocks)
        meter.values(names.INDEX_BLOCKS).put(sum(len(one.index) for one in self.choosers.values()))
        meter.values(names.FOLLOWED).put(len(self._following))
        meter.values(names.UNROUTED)

    # ---- messages

    def _on_choose(self, choose: Choose, reply: Reply) -> None:
        if self.draining:
            reply.end(DRAINING)
            return
        answer = self.choose(choose)
        if isinstance(answer, Failure):
            reply.end(answer)
            return
        reply.send(answer)
        reply.end()

    def _on_went(self, went: Went, reply: Reply) -> None:
        for request in went.begun:
            self.begun(request)
        for request in went.ended:
            self.ended(request)
        reply.end()

    def _on_explain(self, explain: Explain, reply: Reply) -> None:
        reply.send(Explained(self.explain(explain.choose)))
        reply.end()

    def _on_learned(self, learned: Learned, reply: Reply) -> None:
        following = self._following.get(learned.worker)
        if following is not None:
            following.chooser.memory.setdefault(learned.worker, learned.prompt)
        reply.end()

    # ---- who is there

    def view_changed(self) -> None:
        view = self.around.members.view
        workers = {one.lease: one for one in view.of("decode")}
        for lease in self._following.keys() - workers.keys():
            self._following.pop(lease).close()
        self._drop_choosers()
        for lease, instance in workers.items():
            known = self._following.get(lease)
            if known is None:
                chooser = self._chooser_for(instance)
                self._following[lease] = Following(self.around.peers, chooser, instance)
            elif known.instance != instance:
                known.changed(instance)
        self._greet_replicas()
        self._note_problem()

    def _drop_choosers(self) -> None:
        """Forget models whose workers are gone; those that the last of them kept out begin afresh."""
        for model, chooser in list(self.choosers.items()):
            of_it = [lease for lease, one in self._following.items() if one.chooser is chooser]
            if all(self._following[lease].problem for lease in of_it):
                for lease in of_it:
                    self._following.pop(lease).close()
                del self.choosers[model]

    def config_changed(self) -> None:
        """The policy or the limits of a model may be others now."""
        for model, chooser in self.choosers.items():
            self._configure(chooser, model)

    def _chooser_for(self, instance: Instance) -> Chooser:
        chooser = self.choosers.get(instance.model)
        if chooser is None:
            chooser = Chooser(instance.block_size, "kv", self.around.rng)
            self._configure(chooser, instance.model)
            self.choosers[instance.model] = chooser
        return chooser

    def _configure(self, chooser: Chooser, model: str) -> None:
        routing = self.around.live.routing(model)
        chooser.policy = routing.policy
        chooser.limits = Limits(routing.max_waiting, routing.max_usage)

    def _note_problem(self) -> None:
        problems = (one.problem for one in self._following.values())
        self.problem = next((problem for problem in problems if problem), None)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        while self._open:
            request, (_, until_s) = next(iter(self._open.items()))
            if until_s > now_s:
                break
            # Its processor died, or its last word was lost.
            self.ended(request)
        for chooser in self.choosers.values():
            for lease, ask in chooser.tick(now_s):
                self._following[lease].ask(ask)
        self._timer = loop.call_later(TICK_S, self._tick)

    # ---- replicas, for `similar`: what each worker was first given

    def _teach(self, chooser: Chooser, worker: LeaseId, prompt: str) -> None:
        learned = Learned(worker, chooser.memory.setdefault(worker, prompt[:COMPARED_CHARS]))
        for replica in self._others():
            self._tell(replica, learned)

    def _greet_replicas(self) -> None:
        others = self._others()
        for replica in others:
            # One that has just come learns all that is known.
            if replica.lease not in self._replicas:
                for chooser in self.choosers.values():
                    for worker, prompt in chooser.memory.items():
                        self._tell(replica, Learned(worker, prompt))
        self._replicas = {one.lease for one in others}

    def _others(self) -> list[Instance]:
        routers = self.around.members.view.of("router")
        return [one for one in routers if one.lease != self.around.lease]

    def _tell(self, replica: Instance, learned: Learned) -> None:
        self.around.peers.open(replica.stream, learned, _Nowhere())


def _request(choose: Choose, default_model: str) -> Request:
    model, excluded = choose.model or default_model, frozenset(choose.excluded)
    return Request(choose.request, model, choose.tokens, choose.blocks, excluded, choose.prompt)


class _Nowhere:
    """Nobody waits for this answer: a replica that did not hear it routes by what it learns itself."""

    def item(self, body: Body) -> None:
        pass

    def end(self, failure: Failure | None) -> None:
        pass

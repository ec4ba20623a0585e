"""The router: says which worker takes a prompt, and tells the other routers what it learned.

In: `Choose` from processors, `Learned` from its replicas. Out: `Chosen`, or `no_worker`.
"""

from __future__ import annotations

from dyno_runtime.bus.base import Reply
from dyno_runtime.core.routing import Router as Policy
from dyno_runtime.roles.base import DRAINING, Part, Surroundings
from dyno_runtime.wire.messages import Body, Choose, Chosen, Failure, Instance, Learned, LeaseId


class Router(Part):
    """See the module."""

    name = "router"

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._policy = Policy(around.settings.routing.policy, around.rng)
        self._replicas: set[LeaseId] = set()

    async def start(self) -> None:
        self.around.peers.on(Choose, self._on_choose)
        self.around.peers.on(Learned, self._on_learned)

    def _on_choose(self, choose: Choose, reply: Reply) -> None:
        if self.draining:
            reply.end(DRAINING)
            return
        workers = [one.lease for one in self.around.members.view.ready("decode", choose.excluded)]
        choice = self._policy.choose(choose.prompt, workers, probe=choose.probe)
        if choice is None:
            reply.end(Failure("no_worker", "the router knows of no decode worker"))
            return
        reply.send(Chosen(choice.worker))
        reply.end()
        if choice.teaches and not choose.probe:
            for replica in self._others():
                self._tell(replica, choice.worker)

    def _on_learned(self, learned: Learned, reply: Reply) -> None:
        self._policy.learn(learned.worker, learned.prompt)
        reply.end()

    def view_changed(self) -> None:
        view = self.around.members.view
        self._policy.keep_only([one.lease for one in view.of("decode")])
        others = self._others()
        # A replica that has just come learns all that is known.
        for replica in others:
            if replica.lease not in self._replicas:
                for worker in self._policy.memory:
                    self._tell(replica, worker)
        self._replicas = {one.lease for one in others}

    def _others(self) -> list[Instance]:
        routers = self.around.members.view.of("router")
        return [one for one in routers if one.lease != self.around.lease]

    def _tell(self, replica: Instance, worker: LeaseId) -> None:
        learned = Learned(worker, self._policy.memory[worker])
        self.around.peers.open(replica.stream, learned, _Nowhere())


class _Nowhere:
    """Nobody waits for this answer: a replica that did not hear it routes by what it learns itself."""

    def item(self, body: Body) -> None:
        pass

    def end(self, failure: Failure | None) -> None:
        pass

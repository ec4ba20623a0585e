"""How a process that dispatches asks for a worker: the router in this process, or the first one that answers.

In: a `Choose`; then `begun` and `ended` for its request. Out: a `Chosen`; None where no router answers, which is
where workers take turns. What is told to a router elsewhere leaves once a turn of the event loop.
"""

from __future__ import annotations

import asyncio
from typing import Any

from dyno_runtime.bus.base import CallFailed
from dyno_runtime.roles.base import Surroundings
from dyno_runtime.roles.journey import Suspects
from dyno_runtime.wire.messages import (
    Address,
    Body,
    Choose,
    Chosen,
    Explain,
    Explained,
    Failure,
    Instance,
    Went,
)

CHOOSE_S = 1.0
NO_ROUTER = "there is no router: workers take turns"


class Steering:
    """See the module; one for each dispatcher."""

    def __init__(self, around: Surroundings, suspects: Suspects) -> None:
        self._around = around
        self._suspects = suspects
        self._told: dict[str, Address] = {}  # requests that another process's router counts
        self._news: dict[Address, tuple[list[str], list[str]]] = {}

    @property
    def here(self) -> bool:
        """Whether `choose_here` can be used: there is a router in this process."""
        return self._around.beside.router is not None

    def choose_here(self, choose: Choose) -> Chosen | None:
        """What the router in this process says, at once. Raises CallFailed where all workers are full."""
        router = self._around.beside.router
        assert router is not None
        return _judged(router.choose(choose))

    async def choose(self, choose: Choose) -> Chosen | None:
        """What a router says. Raises CallFailed where all workers are full."""
        if self.here:
            return self.choose_here(choose)
        self.ended(choose.request)  # a retry, which another router may take
        # All processors ask the same router first, so that replicas of it need not agree on every request.
        for router in self._routers():
            try:
                answer = await self._around.peers.ask(router.stream, choose, CHOOSE_S)
            except CallFailed as error:
                if error.failure.code == "overloaded":
                    raise
                self._suspect(router, error)
                continue
            if isinstance(answer, Chosen):
                if choose.request:
                    self._told[choose.request] = router.stream
                return answer
        return None

    async def explain(self, choose: Choose) -> dict[str, Any]:
        """Where it would go, and why; see docs/routing.md."""
        if self._around.beside.router is not None:
            return self._around.beside.router.explain(choose)
        for router in self._routers():
            try:
                answer = await self._around.peers.ask(router.stream, Explain(choose), CHOOSE_S)
            except CallFailed as error:
                self._suspect(router, error)
                continue
            if isinstance(answer, Explained):
                return answer.document
        return {"model": choose.model, "worker": None, "why": NO_ROUTER, "workers": []}

    def begun(self, request: str) -> None:
        """Its first token came."""
        if self._around.beside.router is not None:
            self._around.beside.router.begun(request)
        elif request in self._told:
            self._news_for(self._told[request])[0].append(request)

    def ended(self, request: str) -> None:
        """It is over, however it ended; call it once for each request that was given to `choose`."""
        if self._around.beside.router is not None:
            self._around.beside.router.ended(request)
            return
        address = self._told.pop(request, None)
        if address is not None:
            self._news_for(address)[1].append(request)

    # ---- within

    def _routers(self) -> list[Instance]:
        return self._suspects.without(self._around.members.view.ready("router"))

    def _suspect(self, router: Instance, error: CallFailed) -> None:
        if error.failure.code in ("peer_lost", "timeout"):
            self._suspects.add(router)

    def _news_for(self, address: Address) -> tuple[list[str], list[str]]:
        if not self._news:
            asyncio.get_running_loop().call_soon(self._send_news)
        return self._news.setdefault(address, ([], []))

    def _send_news(self) -> None:
        news, self._news = self._news, {}
        for address, (begun, ended) in news.items():
            self._around.peers.open(address, Went(begun, ended), _Nowhere())


def _judged(answer: Chosen | Failure) -> Chosen | None:
    if isinstance(answer, Chosen):
        return answer
    if answer.code == "overloaded":
        raise CallFailed(answer)
    return None


class _Nowhere:
    """A router that did not hear it lets go of the request when its time is over."""

    def item(self, body: Body) -> None:
        pass

    def end(self, failure: Failure | None) -> None:
        pass

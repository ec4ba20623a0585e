"""The frontend: HTTP in, HTTP out.

`POST /generate {"prompt": …, "request_id": …}` answers `{"worker_output": …, "request_id": …}`, as JSON, whatever
`Accept` says: the hello-world clients ask for `text/event-stream` and are shown this same object.
The OpenAI API is in `api`, `POST /debug/route` in `debug`. `GET /health` (200 while a decode worker could take a
request, with the counts of registered and of ready instances), `/ready` (200 while this process takes requests) and
`/live`.

Every answer says who made it, `x-dyno-worker: node2/decode-0`, and who prefilled, `x-dyno-prefill: local` or
`remote:node3/prefill-0`. Three request headers are for probes: `x-dyno-probe: 1` (the router must not learn from it),
`x-dyno-target: <lease or node/unit>` (this decode worker and no other), `x-dyno-prefill: remote` (ask for a remote
prefill however short the prompt is, and wait for a moment until there is a way to one; it still falls back, and
the answer says so).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

import msgspec

from dyno_runtime.bus.base import Call, CallFailed
from dyno_runtime.bus.exchange import Exchange, error_body
from dyno_runtime.bus.http import HttpServer
from dyno_runtime.core.session import Session
from dyno_runtime.core.view import ready_counts
from dyno_runtime.roles.api import GONE, Api
from dyno_runtime.roles.base import DRAINING, Part, Surroundings
from dyno_runtime.roles.dispatch import Dispatcher
from dyno_runtime.roles.journey import Journey, Suspects
from dyno_runtime.wire.messages import Ask, Body, Failure, Instance, Text

RETRY_AFTER = (b"retry-after", b"1")
_STATUS = {"bad_request": 400, "not_found": 404, "too_large": 413, "engine": 500, "timeout": 504}
_KIND = {400: "invalid_request_error", 404: "invalid_request_error", 413: "invalid_request_error"}


class GenerateRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /generate`."""

    prompt: str
    request_id: str | None = None


class Frontend(Part):
    """See the module."""

    name = "frontend"

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._dispatcher = Dispatcher(around)
        self._server: HttpServer | None = None
        self._body = msgspec.json.Decoder(GenerateRequest)
        self._live: set[_Visit] = set()
        self._requests = 0
        self._turn = 0
        self._suspects = Suspects()
        self._api = Api(around, self._dispatcher)
        self._routes: dict[str, tuple[str, Callable[[Exchange], None]]] = {
            "/v1/chat/completions": ("POST", self._api.chat),
            "/v1/completions": ("POST", self._api.completion),
            "/v1/models": ("GET", self._api.models),
            "/debug/route": ("POST", self._api.debug.route),
            "/openapi.json": ("GET", self._api.spec),
            "/metrics": ("GET", self._metrics),
            "/generate": ("POST", self._generate),
            "/health": ("GET", self._health),
            "/ready": ("GET", self._ready),
            "/live": ("GET", self._alive),
        }

    async def start(self) -> None:
        http = self.around.settings.http
        assert http is not None
        self._server = HttpServer(self._serve)
        await self._server.listen(http.host, http.port, shared=self.around.settings.http_workers > 1)

    async def run(self) -> None:
        await self._api.run()

    @property
    def in_flight(self) -> int:
        return len(self._live) + self._api.in_flight

    def measure(self) -> None:
        self._api.measure()

    def view_changed(self) -> None:
        self._api.view_changed()

    def drain(self) -> None:
        super().drain()
        self._api.draining = True
        if self._server is not None:
            self._server.drain()

    async def stop(self) -> None:
        for visit in list(self._live):
            visit.give_up(DRAINING)
        self._api.stop()
        if self._server is not None:
            await self._server.close()

    # ---- routes

    def _serve(self, exchange: Exchange) -> None:
        path, method = exchange.request.path, exchange.request.method
        route = self._routes.get(path)
        if route is None and path.startswith("/v1/models/"):
            route = self._routes["/v1/models"]
        if route is None:
            exchange.respond(
                404,
                error_body(f"there is no {path}; /openapi.json says what there is", _KIND[404], "not_found"),
            )
        elif method != route[0] and not (method == "HEAD" and route[0] == "GET"):
            message = f"{path} takes {route[0]}, not {method}"
            body = error_body(message, _KIND[400], "method_not_allowed")
            exchange.respond(405, body, ((b"allow", route[0].encode()),))
        else:
            route[1](exchange)

    def _alive(self, exchange: Exchange) -> None:
        exchange.respond(200, b'{"status":"alive"}')

    def _metrics(self, exchange: Exchange) -> None:
        self.around.metering.show(exchange)

    def _ready(self, exchange: Exchange) -> None:
        if self.draining:
            exchange.respond(503, b'{"status":"draining"}', (RETRY_AFTER,))
        elif self.around.desk.state in ("loading", "failed"):
            exchange.respond(503, b'{"status":"loading"}', (RETRY_AFTER,))
        else:
            exchange.respond(200, b'{"status":"ready"}')

    def _health(self, exchange: Exchange) -> None:
        view = self.around.members.view
        serving = bool(view.ready("decode")) and not self.draining
        status = "ok" if serving else "draining" if self.draining else "no worker"
        counts = {"instances": view.counts(), "ready": ready_counts(view)}
        body = msgspec.json.encode({"status": status, **counts})
        exchange.respond(200 if serving else 503, body, () if serving else (RETRY_AFTER,))

    def _generate(self, exchange: Exchange) -> None:
        try:
            wanted = self._body.decode(exchange.request.body)
            # A lone half of a surrogate pair is a str that no tokenizer takes.
            wanted.prompt.encode()
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            message = f"the body is not what /generate takes: {error}"
            self._api.figures.refused(400, "bad_request")
            exchange.respond(400, error_body(message, _KIND[400], "bad_request"))
            return
        if self.draining:
            self.refuse(exchange, DRAINING)
            return
        self._requests += 1
        ask = self._ask(wanted, exchange)
        visit = _Visit(self, exchange, wanted.request_id or ask.request)
        visit.travel(self._send(ask, visit), self.around.settings.request_timeout_s)

    def _ask(self, wanted: GenerateRequest, exchange: Exchange) -> Ask:
        headers = exchange.request.headers
        prefill: Literal["auto", "remote"] = (
            "remote" if headers.get(b"x-dyno-prefill") == b"remote" else "auto"
        )
        return Ask(
            # Unique in the cluster: the client's own id may not be.
            request=f"{self.around.lease}-{self._requests}",
            prompt=wanted.prompt,
            probe=headers.get(b"x-dyno-probe") == b"1",
            target=headers[b"x-dyno-target"].decode("latin-1") if b"x-dyno-target" in headers else None,
            prefill=prefill,
        )

    # ---- on to a processor

    def _send(self, ask: Ask, visit: _Visit) -> Call | None:
        if self.around.members.view.ready("processor"):
            return Journey(self.around.peers, self._processor, ask, visit, self._suspects)
        return self._dispatcher.open_ask(ask, visit)

    async def _processor(self, session: Session) -> Instance:
        known = self.around.members.view.ready("processor", session.excluded)
        processors = self._suspects.without(known)
        if not processors:
            raise CallFailed(Failure("no_worker", "there is no processor that could take the request"))
        own = next((one for one in processors if one.lease == self.around.lease), None)
        self._turn += 1
        return own or processors[self._turn % len(processors)]

    def arrived(self, visit: _Visit) -> None:
        """A request is in flight."""
        self._live.add(visit)

    def left(self, visit: _Visit) -> None:
        """A request was answered, or its client went away."""
        self._live.discard(visit)

    def answered(self, seconds: float) -> None:
        """It was answered, after this time."""
        self._api.figures.answered(seconds)

    def refuse(self, exchange: Exchange, failure: Failure) -> None:
        """Answer with this failure."""
        self._api.figures.refused(_STATUS.get(failure.code, 503), failure.code)
        _refuse(exchange, failure)

    def deserted(self) -> None:
        """Its client left."""
        self._api.figures.refused(GONE, None)


class _Visit:
    """One client's request: gathers the text, answers once, and lets go of everything when the client leaves."""

    def __init__(self, frontend: Frontend, exchange: Exchange, request_id: str) -> None:
        self._frontend = frontend
        self._exchange = exchange
        self._request_id = request_id
        self._text: list[str] = []
        self._headers: tuple[tuple[bytes, bytes], ...] = ()
        self._call: Call | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self._whole = False
        self._arrived_s = asyncio.get_running_loop().time()
        frontend.arrived(self)

    def travel(self, call: Call | None, timeout_s: float) -> None:
        """The request is on its way as `call`; None where it was refused at once."""
        if self._over or call is None:
            return
        self._call = call
        self._exchange.on_gone = self._leave
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._expire, timeout_s)

    def item(self, body: Body) -> None:
        if isinstance(body, Text):
            self._text.append(body.text)
            self._whole = body.finish is not None
            if body.worker is not None:
                prefill = (body.prefill or "local").encode()
                self._headers = ((b"x-dyno-worker", body.worker.encode()), (b"x-dyno-prefill", prefill))

    def end(self, failure: Failure | None) -> None:
        if self._leave_books():
            # A processor that dies between the last piece and its goodbye has answered.
            if failure is not None and not self._whole:
                self._frontend.refuse(self._exchange, failure)
            else:
                self._frontend.answered(asyncio.get_running_loop().time() - self._arrived_s)
                answer = {"worker_output": "".join(self._text), "request_id": self._request_id}
                self._exchange.respond(200, msgspec.json.encode(answer), self._headers)

    def give_up(self, failure: Failure) -> None:
        """Answer with this failure and stop the work."""
        if self._leave_books():
            if self._call is not None:
                self._call.cancel()
            self._frontend.refuse(self._exchange, failure)

    def _expire(self, timeout_s: float) -> None:
        self.give_up(Failure("timeout", f"there was no answer within {timeout_s:g} s"))

    def _leave(self) -> None:
        if self._leave_books():
            self._frontend.deserted()
            if self._call is not None:
                self._call.cancel()

    def _leave_books(self) -> bool:
        if self._over:
            return False
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._frontend.left(self)
        return True


def _refuse(exchange: Exchange, failure: Failure) -> None:
    status = _STATUS.get(failure.code, 503)
    kind = _KIND.get(status, "unavailable_error" if status == 503 else "server_error")
    headers = (RETRY_AFTER,) if status == 503 else ()
    exchange.respond(status, error_body(failure.message, kind, failure.code), headers)

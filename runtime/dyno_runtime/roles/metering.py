"""The metrics of one process: kept, shown to Prometheus, and the last minute of them in a file for `dynoctl status`.

In: the meter that the roles count with, and a way to have gauges set. Out: `GET /metrics` at an endpoint of its own
where the settings name one; `figures.json` beside the health file, replaced by rename every two seconds; an answer
to `Measure`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from dyno_runtime.bus.base import Reply
from dyno_runtime.bus.exchange import Exchange, error_body
from dyno_runtime.bus.http import HttpServer
from dyno_runtime.clock import uptime_s
from dyno_runtime.metrics.kinds import Meter
from dyno_runtime.metrics.minute import BEAT_S, Minute, Ring
from dyno_runtime.settings import ProcessSettings
from dyno_runtime.wire.messages import Measure, Measured

log = logging.getLogger("dyno.metrics")

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Figures(msgspec.Struct):
    """The file. `beat_s` is uptime at writing, `planned` the planner's last decision where this process has one."""

    pid: int
    beat_s: float
    minute: Minute
    planned: dict[str, Any] | None = None


class Metering:
    """See the module. `measure` sets what is not counted as it happens; it is called before each look."""

    def __init__(self, settings: ProcessSettings, measure: Callable[[], None]) -> None:
        self.meter = Meter()
        self.planned: dict[str, Any] | None = None
        self._settings = settings
        self._measure = measure
        self._path = Path(settings.health_path).parent / "figures.json"
        self._ring: Ring | None = None
        self._server: HttpServer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failed = False

    async def start(self) -> None:
        """Count from now on. Raises Refused where the port is taken."""
        loop = asyncio.get_running_loop()
        self._ring = Ring(self.meter, loop.time())
        if self._settings.measured:
            self._timer = loop.call_later(BEAT_S, self._beat)
        at = self._settings.metrics
        if at is not None:
            self._server = HttpServer(self._serve)
            await self._server.listen(at.host, at.port)

    async def stop(self) -> None:
        """No more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            await self._server.close()

    def show(self, exchange: Exchange) -> None:
        """GET /metrics."""
        self._measure()
        exchange.respond(200, self.meter.text(), (), CONTENT_TYPE)

    def on_measure(self, _: Measure, reply: Reply) -> None:
        """The planner asks."""
        reply.send(Measured(msgspec.to_builtins(self.look())))
        reply.end()

    def _serve(self, exchange: Exchange) -> None:
        path, method = exchange.request.path, exchange.request.method
        if path != "/metrics":
            message = f"there is no {path} here, only /metrics"
            exchange.respond(404, error_body(message, "invalid_request_error", "not_found"))
        elif method not in ("GET", "HEAD"):
            body = error_body(
                f"/metrics takes GET, not {method}", "invalid_request_error", "method_not_allowed"
            )
            exchange.respond(405, body, ((b"allow", b"GET"),))
        else:
            self.show(exchange)

    def look(self) -> Minute:
        """The last minute, as of now."""
        assert self._ring is not None
        self._measure()
        return self._ring.look(asyncio.get_running_loop().time())

    def _beat(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
        minute = self.look()
        assert self._ring is not None
        self._ring.keep(asyncio.get_running_loop().time())
        figures = Figures(os.getpid(), round(uptime_s(), 3), minute, self.planned)
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            part.write_bytes(msgspec.json.encode(figures) + b"\n")
            part.replace(self._path)
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("cannot write %s: %s", self._path, error.strerror)
            self._failed = True

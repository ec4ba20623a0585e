"""The load generator: sends a point's requests, in a closed loop or on a schedule, and takes a sample of each.

In: where, orders, a load. Out: an `Outcome`. First the warm-up, whose answers count for nothing but their errors;
then the requests that count. `stop` ends it where it is: what is under way is given up, what was answered is kept.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from urllib.parse import SplitResult

import msgspec

from dynoctl.bench.load import Load
from dynoctl.bench.samples import Sample
from dynoctl.probe.bench.client import Client
from dynoctl.probe.bench.orders import Order, Orders
from dynoctl.probe.bench.tool import OnProgress

SILENCE_S = 300.0
TICK_S = 0.25
CONNECT_S = 10.0
WARM_AT_ONCE = 10  # where the load says nothing of how many at once
_MESSAGE = re.compile(rb'"message":\s*"((?:[^"\\]|\\.)*)"')


@dataclass
class Outcome:
    """What came back. `cpu` is the share of one core that this process used while it was measured."""

    samples: list[Sample] = field(default_factory=list)
    duration_s: float = 0.0
    cpu: float = 0.0
    warm_errors: list[str] = field(default_factory=list)
    warm: dict[str, float] | None = None  # what `on_warm` gave, behind the warm-up
    interrupted: bool = False


class Line(Client):
    """A connection with what was asked on it."""

    order: Order


class Phase:
    """So many requests, from first to last."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.count = count
        self.samples: list[Sample] = []
        self.tokens = 0
        self.start_s = time.perf_counter()
        self.end_s = self.start_s
        self.over = asyncio.Event()

    @property
    def under_way(self) -> int:
        """Requests that were taken and have no sample yet."""
        return self.count - self.left - len(self.samples)


class Generator:
    """One point."""

    def __init__(
        self,
        url: SplitResult,
        orders: Orders,
        load: Load,
        on_progress: OnProgress = lambda *_: None,
        silence_s: float = SILENCE_S,
        on_warm: Callable[[], dict[str, float]] = dict,
    ) -> None:
        self._url = url
        self._on_warm = on_warm
        self._orders = orders
        self._load = load
        self._on_progress = on_progress
        self._silence_s = silence_s
        self._loop = asyncio.get_running_loop()
        self._lines: set[Line] = set()
        self._idle: deque[Line] = deque()
        self._waiting: deque[Order] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._phase = Phase(0)
        self._warming = True
        self._scheduled = False
        self._stopped = False

    async def run(self) -> Outcome:
        """Warm up, measure, close."""
        load, outcome = self._load, Outcome()
        ticking = self._loop.create_task(self._tick())
        try:
            if load.warmup:
                self._closed(load.warmup, load.concurrency or WARM_AT_ONCE)
                await self._phase.over.wait()
                outcome.warm_errors = [one.error for one in self._phase.samples if one.error]
                outcome.warm = await self._loop.run_in_executor(None, self._on_warm)
            self._warming = False
            used_s = _own_cpu_s()
            if load.trace is not None or load.rate_per_s is not None:
                self._open()
            else:
                self._closed(load.requests, load.concurrency or 1)
            phase = self._phase
            await phase.over.wait()
            wall_s = max(phase.end_s - phase.start_s, 1e-9)
            outcome.cpu = (_own_cpu_s() - used_s) / max(time.perf_counter() - phase.start_s, 1e-9)
            outcome.samples, outcome.duration_s = phase.samples, wall_s
            outcome.interrupted = self._stopped
        finally:
            ticking.cancel()
            for task in self._opening:
                task.cancel()
            for line in tuple(self._lines):
                line.end()
        return outcome

    def stop(self) -> None:
        """End it now."""
        self._stopped = True
        self._phase.end_s = time.perf_counter()
        self._phase.over.set()

    def _closed(self, count: int, clients: int) -> None:
        self._phase = Phase(0 if self._stopped else count)
        self._scheduled = False
        if not self._phase.count:
            self._phase.over.set()
        for _ in range(min(clients, count)):
            self._take(self._orders.fresh())

    def _open(self) -> None:
        self._phase = Phase(0 if self._stopped else self._load.requests)
        self._scheduled = True
        if not self._phase.count:
            self._phase.over.set()
        self._random = Random(self._load.seed)
        self._arrive(self._loop.time(), self._orders.fresh() if self._phase.count else None)

    def _arrive(self, start_s: float, order: Order | None) -> None:
        """Send one that is due, and set the clock for the next; at its time by the schedule, however late this is."""
        if order is None or self._stopped or not self._phase.left:
            return
        now_s = self._loop.time()
        if order.at_s is not None and start_s + order.at_s > now_s:
            self._loop.call_at(start_s + order.at_s, self._arrive, start_s, order)
            return
        self._take(order)
        if not self._phase.left:
            return
        if order.at_s is not None:
            self._loop.call_soon(self._arrive, start_s, self._orders.fresh())
            return
        due_s = start_s + self._random.expovariate(self._load.rate_per_s or 1.0)
        self._loop.call_at(due_s, self._arrive_at, due_s)

    def _arrive_at(self, due_s: float) -> None:
        self._arrive(due_s, self._orders.fresh())

    def _take(self, order: Order) -> None:
        """One more request is under way: on an idle connection, a new one, or once there is one."""
        self._phase.left -= 1
        if self._idle:
            self._send(self._idle.popleft(), order)
            return
        most = self._load.concurrency
        if most is not None and len(self._lines) + len(self._opening) >= most:
            self._waiting.append(order)
            return
        task = self._loop.create_task(self._connect(order))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, order: Order) -> None:
        started_s = time.perf_counter()
        line = Line(self, keep=self._load.turns > 1)
        line.order = order
        host, secure = self._url.hostname or "", self._url.scheme == "https"
        port = self._url.port or (443 if secure else 80)
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._loop.create_connection(lambda: line, host, port, ssl=secure or None)
        except (OSError, TimeoutError) as error:
            why = f"none for {CONNECT_S:g} s" if isinstance(error, TimeoutError) else words(error)
            now_s = time.perf_counter()
            failed = Sample(
                started_s - self._phase.start_s,
                now_s - started_s,
                error=f"no connection to {host}:{port}: {why}",
            )
            self._sample(failed)
            self._go_on()

    def ready(self, client: Client) -> None:
        assert isinstance(client, Line)
        self._lines.add(client)
        self._send(client, client.order)

    def over(self, client: Client) -> None:
        assert isinstance(client, Line)
        self._sample(sample_of(client, self._phase.start_s))
        # Not from within its parser, which still reads.
        self._loop.call_soon(self._next, client)

    def lost(self, client: Client, why: str) -> None:
        assert isinstance(client, Line)
        self._lines.discard(client)
        if client in self._idle:
            self._idle.remove(client)
        if client.busy:
            client.busy = False
            start_s = client.sent_s - self._phase.start_s
            self._sample(Sample(start_s, time.perf_counter() - client.sent_s, error=why))
            self._go_on()

    def _send(self, line: Line, order: Order) -> None:
        line.order = order
        line.send(order.data)

    def _next(self, line: Line) -> None:
        """What this connection does now; where it is gone, another one does it."""
        if self._stopped:
            return
        if not line.stays:
            self._lines.discard(line)
            line.end()
        follow = None
        if self._load.turns > 1 and self._phase.left:
            follow = self._orders.follow(line.order, spoken(line.body))
        if line not in self._lines:
            if follow is not None:
                self._take(follow)
            else:
                self._go_on()
        elif follow is not None:
            self._phase.left -= 1
            self._send(line, follow)
        elif self._waiting:
            self._send(line, self._waiting.popleft())
        elif self._phase.left and not self._scheduled:
            self._phase.left -= 1
            self._send(line, self._orders.fresh())
        else:
            self._idle.append(line)

    def _go_on(self) -> None:
        """A connection is gone; somebody else asks in its place."""
        if self._stopped:
            return
        if self._waiting:
            self._phase.left += 1
            self._take(self._waiting.popleft())
        elif self._phase.left and not self._scheduled:
            self._loop.call_soon(self._take_fresh)

    def _take_fresh(self) -> None:
        if self._phase.left:
            self._take(self._orders.fresh())

    def _sample(self, sample: Sample) -> None:
        phase = self._phase
        phase.samples.append(sample)
        phase.tokens += sample.output_tokens or 0
        if not phase.left and not phase.under_way:
            phase.end_s = time.perf_counter()
            phase.over.set()

    async def _tick(self) -> None:
        while True:
            self._on_progress(self._warming, len(self._phase.samples), self._phase.count, self._phase.tokens)
            oldest_s = time.perf_counter() - self._silence_s
            for line in [line for line in self._lines if line.busy and line.last_s < oldest_s]:
                line.end(f"no answer for {self._silence_s:g} s")
            await asyncio.sleep(TICK_S)


def words(error: OSError) -> str:
    """Why, in words that do not depend on the event loop."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


def sample_of(line: Line, start_s: float) -> Sample:
    """What an answer that has ended was."""
    prompt, said, cached = line.usage
    error = None
    if line.status != 200 or b"[DONE]" not in line.tail or b'data: {"error"' in line.tail:
        error = problem(line.status, line.tail)
    return Sample(
        line.sent_s - start_s,
        line.over_s - line.sent_s,
        line.first_s - line.sent_s if line.first_s else None,
        prompt,
        # An answer without text has no tokens, whatever the server counted.
        said if line.first_s else 0,
        cached,
        line.order.tokens,
        error,
    )


def problem(status: int, tail: bytes) -> str:
    """Why an answer is none, in the server's own words where it has some."""
    found = _MESSAGE.findall(tail)
    said = ""
    if found:
        try:
            said = msgspec.json.decode(b'"' + found[-1] + b'"', type=str)
        except msgspec.DecodeError:
            said = found[-1].decode(errors="replace")
    if status != 200:
        return f"status {status}" + (f": {said}" if said else "")
    return f"the stream ended in an error: {said}" if said else "the stream was cut off"


def spoken(body: bytes) -> str:
    """The text of a streamed answer."""
    text = []
    for line in body.splitlines():
        if line.startswith(b"data: {"):
            try:
                choices = msgspec.json.decode(line[6:])["choices"]
                text += [str(choice["delta"].get("content") or "") for choice in choices]
            except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
                continue
    return "".join(text)


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

"""A simulated cluster: real choosers, simulated workers, and a network between them that delays and loses.

In: rows of a trace, faults. Out: what became of every request. Everything is drawn from one seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from benchmarks.trace import Row
from dyno_runtime.core.chooser import Chooser, Limits, Refusal, Worker
from dyno_runtime.core.kv_ledger import Ledger
from dyno_runtime.core.policies import Choice, PolicyName, Request
from dyno_runtime.wire.kv import KvAsk, KvBatch, KvSnapshot, LoadReport
from tests.sim.clock import Clock
from tests.sim.worker import Job, Machine, SimWorker

MODEL = "sim"
TICK_S = 0.25


@dataclass(frozen=True)
class Network:
    """How long a message takes, how many of the lossy ones are lost; how long a death stays unknown."""

    least_s: float = 0.0002
    most_s: float = 0.002
    loss: float = 0.0
    events_late_s: float = 0.0
    lease_s: float = 1.0
    report_s: float = 0.1


@dataclass(slots=True)
class Passage:
    """A request and what became of it. Times are since the start of the simulation."""

    request: Request
    output: int
    at_s: float
    router: int
    worker: str = ""
    attempts: int = 0
    first_s: float | None = None
    end_s: float | None = None
    hit_tokens: int = 0
    cancelled: bool = False
    excluded: set[str] = field(default_factory=set)

    @property
    def over(self) -> bool:
        """It was answered, or nobody wants it any more."""
        return self.end_s is not None or self.cancelled


class Cluster:
    """See the module."""

    def __init__(
        self,
        seed: int,
        policy: PolicyName,
        workers: int,
        routers: int = 1,
        machine: Machine | None = None,
        network: Network | None = None,
        limits: Limits | None = None,
        max_blocks: int = 1_000_000,
    ) -> None:
        self.clock = Clock()
        self.rng = Random(seed)
        self.network = network or Network()
        self.machine = machine or Machine()
        self.passages: list[Passage] = []
        self.open = 0
        self.workers: dict[str, SimWorker] = {}
        self.cut_off: set[tuple[int, str]] = set()  # these hear nothing of each other for now
        self.gone: list[set[str]] = [set() for _ in range(routers)]  # whose end each router knows of
        size = self.machine.block_size
        self.routers = [
            Chooser(size, policy, Random(self.rng.random()), limits, max_blocks) for _ in range(routers)
        ]
        for _ in range(workers):
            self.join()
        for number in range(routers):
            self.clock.after(self.rng.uniform(0, TICK_S), self._tick, number)

    # ---- what may happen -------------------------------------------------------------------------------

    def join(self) -> None:
        """A new worker, known to all routers a moment later."""
        name = f"w{len(self.workers):02}"

        def tell(batch: KvBatch) -> None:
            self._publish(name, Chooser.batch, batch, self.network.events_late_s)

        self.workers[name] = SimWorker(name, self.machine, self.clock, tell)
        self.clock.after(self.rng.uniform(0, self.network.report_s), self._report, name)
        for number in range(len(self.routers)):
            self._soon(self._seen, number, name)

    def die(self, name: str) -> None:
        """A worker ends: callers notice at once, everybody else when its lease runs out."""
        for job in self.workers[name].die():
            self._soon(self._lost, next(one for one in self.passages if one.request.id == job.id), name)
        for number in range(len(self.routers)):
            self.clock.after(self.network.lease_s, self._gone, number, name)

    def arrive(self, rows: Sequence[Row], hash_of: Callable[[int], int]) -> None:
        """These requests come at their time, at one router after the other."""
        for row in rows:
            full = row.input_length // self.machine.block_size
            blocks = [hash_of(number) for number in row.hash_ids[:full]]
            request = Request(f"r{len(self.passages)}", MODEL, row.input_length, blocks)
            at_s = self.clock.now_s + row.timestamp / 1000
            router = len(self.passages) % len(self.routers)
            passage = Passage(request, row.output_length, at_s, router)
            self.passages.append(passage)
            self.open += 1
            self.clock.after(row.timestamp / 1000, self._route, passage)

    def cancel(self, passage: Passage) -> None:
        """The client leaves."""
        if passage.over:
            return
        passage.cancelled = True
        self.open -= 1
        self.routers[passage.router].ended(passage.request.id, self.clock.now_s)
        if passage.worker:
            self._soon(self.workers[passage.worker].cancel, passage.request.id)

    def run(self, until_s: float) -> None:
        """Let time pass, until all requests are over."""
        self.clock.run(until_s, unless=lambda: not self.open)

    # ---- a request -------------------------------------------------------------------------------------

    def _route(self, passage: Passage) -> None:
        if passage.over:
            return
        chooser = self.routers[passage.router]
        request = passage.request
        if passage.excluded:
            request = Request(request.id, MODEL, request.tokens, request.blocks, frozenset(passage.excluded))
        choice = chooser.choose(request)
        if isinstance(choice, Refusal):
            passage.excluded.clear()
            self.clock.after(0.2, self._route, passage)
            return
        assert choice.worker not in self.gone[passage.router], "a worker whose end is known was chosen"
        assert choice.worker not in request.excluded
        self._send(passage, request, choice)

    def _send(self, passage: Passage, request: Request, choice: Choice) -> None:
        self.routers[passage.router].routed(request, choice, self.clock.now_s)
        passage.worker = choice.worker
        passage.attempts += 1
        self._soon(self._arrived, passage, choice.worker)

    def _arrived(self, passage: Passage, name: str) -> None:
        worker = self.workers[name]
        if passage.over:
            return
        if not worker.alive:
            self._soon(self._lost, passage, name)
            return
        request = passage.request

        def first() -> None:
            passage.hit_tokens = job.matched * self.machine.block_size
            self._soon(self._first, passage, name)

        def end() -> None:
            # The end travels behind the first token on the same connection.
            self.clock.after(self.network.most_s, self._ended, passage, name)

        job = Job(request.id, request.tokens, passage.output, list(request.blocks), first, end)
        worker.submit(job)

    def _first(self, passage: Passage, name: str) -> None:
        if not passage.over and passage.worker == name:
            if passage.first_s is None:
                passage.first_s = self.clock.now_s
            self.routers[passage.router].begun(passage.request.id, self.clock.now_s)

    def _ended(self, passage: Passage, name: str) -> None:
        if not passage.over and passage.worker == name:
            passage.end_s = self.clock.now_s
            self.open -= 1
            self.routers[passage.router].ended(passage.request.id, self.clock.now_s)

    def _lost(self, passage: Passage, name: str) -> None:
        """The worker went away under the request: it is done again elsewhere, from its beginning."""
        if passage.over or passage.worker != name:
            return
        self.routers[passage.router].ended(passage.request.id, self.clock.now_s)
        passage.worker = ""
        passage.excluded.add(name)
        self._route(passage)

    # ---- what workers and routers tell each other ------------------------------------------------------

    def _report(self, name: str) -> None:
        worker = self.workers[name]
        if worker.alive:
            report: LoadReport = worker.report()
            self._publish(name, Chooser.report, report, 0.0)
            self.clock.after(self.network.report_s, self._report, name)

    def _publish(self, name: str, take: Callable[..., object], message: object, late_s: float) -> None:
        for number in range(len(self.routers)):
            if not self._lossy(number, name):
                self._soon(self._deliver, number, name, take, message, late_s=late_s)

    def _deliver(self, number: int, name: str, take: Callable[..., object], message: object) -> None:
        ask = take(self.routers[number], name, message, self.clock.now_s)
        if isinstance(ask, KvAsk):
            self._ask(number, name, ask)

    def _ask(self, number: int, name: str, ask: KvAsk) -> None:
        if not self._lossy(number, name):
            self._soon(self._asked, number, name, ask)

    def _asked(self, number: int, name: str, ask: KvAsk) -> None:
        if self.workers[name].alive and not self._lossy(number, name):
            ledger: Ledger = self.workers[name].cache.ledger
            self._soon(self._answer, number, name, ledger.since(ask.after))

    def _answer(self, number: int, name: str, answer: list[KvBatch] | KvSnapshot) -> None:
        self.routers[number].answer(name, answer)

    def _tick(self, number: int) -> None:
        for name, ask in self.routers[number].tick(self.clock.now_s):
            self._ask(number, name, ask)
        self.clock.after(TICK_S, self._tick, number)

    def _seen(self, number: int, name: str) -> None:
        if name not in self.gone[number]:
            worker = Worker(name, frozenset([MODEL]), self.machine.block_size)
            ask = self.routers[number].seen(worker, self.clock.now_s)
            if ask is not None:
                self._ask(number, name, ask)

    def _gone(self, number: int, name: str) -> None:
        self.gone[number].add(name)
        self.routers[number].gone(name)

    def _lossy(self, number: int, name: str) -> bool:
        return (number, name) in self.cut_off or (
            self.network.loss > 0 and self.rng.random() < self.network.loss
        )

    def _soon(self, do: Callable[..., None], *args: object, late_s: float = 0.0) -> None:
        wait_s = self.rng.uniform(self.network.least_s, self.network.most_s)
        if late_s:
            wait_s += self.rng.uniform(0, late_s)
        self.clock.after(wait_s, do, *args)

"""For tests of the mock engine: timers that fire when they are told to, and schedulers and jobs in short."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from dyno_runtime.core.blocks import block_hashes
from dyno_runtime.engine.base import Job, KvCleared, KvRemoved, KvStored
from dyno_runtime.engine.mock.answer import Words
from dyno_runtime.engine.mock.args import MockArgs
from dyno_runtime.engine.mock.machine import Machine
from dyno_runtime.engine.mock.scheduler import Scheduler
from dyno_runtime.wire.sampling import Sampling


class VirtualHandle:
    """A planned call."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class VirtualLoop:
    """Timers for a `Machine`; time passes only in `run`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.late_s = 0.0  # every timer fires so much later than it should
        self._count = 0
        self._planned: list[tuple[float, int, VirtualHandle]] = []

    def time(self) -> float:
        return self.now_s

    def call_soon(self, callback: Callable[..., object], *args: Any) -> VirtualHandle:
        return self.call_at(self.now_s, callback, *args)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> VirtualHandle:
        handle = VirtualHandle(lambda: callback(*args))
        self._count += 1
        heappush(self._planned, (when, self._count, handle))
        return handle

    def turn(self) -> bool:
        """What is planned next happens; False where nothing is."""
        while self._planned:
            when, _, handle = heappop(self._planned)
            if handle.call is not None:
                if when > self.now_s:
                    self.now_s = when + self.late_s
                handle.call()
                return True
        return False

    def run(self, until_s: float = float("inf")) -> None:
        """Everything up to that time."""
        while self._planned and self._planned[0][0] <= until_s:
            self.turn()
        if until_s != float("inf"):
            self.now_s = until_s


def make_scheduler(block_size: int = 4, max_model_len: int = 1000, **args: Any) -> Scheduler:
    """A scheduler with args as given."""
    return Scheduler(MockArgs(**args), block_size, max_model_len, block_hashes, Words())


def make_machine(
    *,
    block_size: int = 4,
    max_model_len: int = 1000,
    exit: Callable[[int], object] = lambda code: None,
    **args: Any,
) -> tuple[Machine, VirtualLoop, list[list[Any]]]:
    """A machine, its timers, and what it delivers: a list of outputs for each step."""
    loop = VirtualLoop()
    machine = Machine(make_scheduler(block_size, max_model_len, **args), loop, exit=exit)
    steps: list[list[Any]] = []
    machine.deliver = steps.append
    return machine, loop, steps


def job(name: str, text: str = "hello, you there", count: int | None = 5, **more: Any) -> Job:
    """A job over the bytes of a text, answered with `count` tokens; None: with as many as the engine likes."""
    sampling = more.pop("sampling", {})
    if count is not None:
        sampling = {"max_tokens": count, "ignore_eos": True, **sampling}
    return Job(name, list(text.encode()), Sampling(**sampling), **more)


def answers(steps: list[list[Any]]) -> dict[str, list[int]]:
    """The tokens of each job."""
    made: dict[str, list[int]] = {}
    for output in (output for step in steps for output in step):
        made.setdefault(output.job.id, []).extend(output.tokens)
    return made


def replayed(changes: list[KvStored | KvRemoved | KvCleared], held: set[int] | None = None) -> set[int]:
    """What somebody believes who heard these changes; each of them must make sense."""
    held = set() if held is None else held
    for change in changes:
        if isinstance(change, KvStored):
            assert not held & set(change.hashes), "stored what is there"
            held |= set(change.hashes)
        elif isinstance(change, KvRemoved):
            assert held >= set(change.hashes), "removed what is not there"
            held -= set(change.hashes)
        else:
            held = set()
    return held

"""Which worker takes a request. In: the prompt, the ready workers, what they were first given. Out: a lease.

`similar` is the hello-world rule: compare with the first prompt that each worker was given; above 0.6 the most
similar worker takes it; else the next worker that was given nothing yet; else the most similar one after all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal

from dyno_runtime.wire.messages import LeaseId

if TYPE_CHECKING:
    from random import Random

Policy = Literal["similar", "random", "round_robin"]

SIMILAR_ABOVE = 0.6
# difflib takes quadratic time, and the rule is about how prompts begin.
COMPARED_CHARS = 1000


@dataclass(frozen=True)
class Choice:
    """The worker to use. `teaches`: its first prompt, so remember it, unless the request is a probe."""

    worker: LeaseId
    teaches: bool = False


def similarity(first: str, prompt: str) -> float:
    """How alike two prompts begin, from 0 to 1. Not symmetric: the remembered one comes first, as in the example."""
    return SequenceMatcher(None, first[:COMPARED_CHARS], prompt[:COMPARED_CHARS]).ratio()


def similar(prompt: str, workers: Sequence[LeaseId], memory: Mapping[LeaseId, str]) -> Choice:
    """The rule above. `workers` is not empty and in the order in which fresh ones are used."""
    ranked = [(similarity(memory[worker], prompt), worker) for worker in workers if worker in memory]
    # max() keeps the first of equals, so equal replicas of the router choose the same worker.
    best, closest = max(ranked, key=lambda pair: pair[0], default=(0.0, ""))
    if best > SIMILAR_ABOVE:
        return Choice(closest)
    fresh = next((worker for worker in workers if worker not in memory), None)
    return Choice(closest) if fresh is None else Choice(fresh, teaches=True)


class Router:
    """One policy with its memory. Bounded: it remembers one shortened prompt for each live worker."""

    def __init__(self, policy: Policy, rng: Random) -> None:
        self.policy = policy
        self.memory: dict[LeaseId, str] = {}
        self._rng = rng
        self._turn = 0

    def choose(self, prompt: str, workers: Sequence[LeaseId], *, probe: bool = False) -> Choice | None:
        """The worker for `prompt`, or None where there are no workers. A probe leaves no trace."""
        if not workers:
            return None
        if self.policy == "similar":
            choice = similar(prompt, workers, self.memory)
            if choice.teaches and not probe:
                self.learn(choice.worker, prompt)
            return choice
        if self.policy == "random":
            return Choice(self._rng.choice(workers))
        worker = workers[self._turn % len(workers)]
        if not probe:
            self._turn += 1
        return Choice(worker)

    def learn(self, worker: LeaseId, prompt: str) -> None:
        """Remember the first prompt of a worker; a later one changes nothing."""
        self.memory.setdefault(worker, prompt[:COMPARED_CHARS])

    def keep_only(self, workers: Sequence[LeaseId]) -> None:
        """Forget the workers that are gone."""
        alive = set(workers)
        self.memory = {worker: first for worker, first in self.memory.items() if worker in alive}

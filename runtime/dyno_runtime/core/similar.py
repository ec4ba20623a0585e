"""The hello-world rule of the policy `similar`. In: the prompt, the ready workers, their first prompts. Out: a lease.

Compare with the first prompt that each worker was given; above 0.6 the most similar worker takes it; else the next
worker that was given nothing yet; else the most similar one after all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from dyno_runtime.wire.messages import LeaseId

SIMILAR_ABOVE = 0.6
# difflib takes quadratic time, and the rule is about how prompts begin.
COMPARED_CHARS = 1000


class Pick(NamedTuple):
    """The worker to use. `teaches`: this is its first prompt, to be remembered."""

    worker: LeaseId
    teaches: bool = False


def similarity(first: str, prompt: str) -> float:
    """How alike two prompts begin, from 0 to 1. Not symmetric: the remembered one comes first, as in the example."""
    return SequenceMatcher(None, first[:COMPARED_CHARS], prompt[:COMPARED_CHARS]).ratio()


def most_similar(prompt: str, workers: Sequence[LeaseId], memory: Mapping[LeaseId, str]) -> Pick:
    """The rule above. `workers` is not empty and in the order in which fresh ones are used."""
    ranked = [(similarity(memory[worker], prompt), worker) for worker in workers if worker in memory]
    # max() keeps the first of equals, so equal replicas of the router choose the same worker.
    best, closest = max(ranked, key=lambda pair: pair[0], default=(0.0, ""))
    if best > SIMILAR_ABOVE:
        return Pick(closest)
    fresh = next((worker for worker in workers if worker not in memory), None)
    return Pick(closest) if fresh is None else Pick(fresh, teaches=True)

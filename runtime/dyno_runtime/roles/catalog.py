"""What clients can ask for, as this process sees it: for each name the workers' model, what it can do, its measures.

In: the view and the names of models. Out: `Offer`s. Looked up for each request, so it is made anew only when
something changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dyno_runtime.core.blocks import salt
from dyno_runtime.openai.errors import ApiError, unknown_model
from dyno_runtime.roles.base import Surroundings
from dyno_runtime.wire.kv import BlockHash
from dyno_runtime.wire.messages import Instance


@dataclass(frozen=True)
class Offer:
    """One name. `model` is what the workers call it, `path` where its files are; lengths in tokens.

    `features` are those that all of its workers have.
    """

    name: str
    model: str
    path: str | None
    block_size: int
    longest_tokens: int
    features: frozenset[str]
    roots: dict[str | None, BlockHash] = field(default_factory=dict)

    def root(self, cache_salt: str | None) -> BlockHash:
        """The parent of a first block."""
        if cache_salt is not None:
            return salt(self.model, "", cache_salt)
        known = self.roots.get(None)
        if known is None:
            known = self.roots[None] = salt(self.model)
        return known


class Catalog:
    """See the module."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._offers: dict[str, Offer] | None = None

    def changed(self) -> None:
        """Instances or names came or went."""
        self._offers = None

    @property
    def offers(self) -> dict[str, Offer]:
        """All that can be asked for now, by name."""
        if self._offers is None:
            served = self._around.names.served(self._around.members.view)
            self._offers = {name: _offer(name, workers) for name, workers in served.items() if workers}
        return self._offers

    def find(self, name: str) -> Offer:
        """The model with exactly this name. Raises ApiError: 404, or 503 where its workers are away."""
        offer = self.offers.get(name)
        if offer is not None:
            return offer
        around = self._around
        known = around.names.model_of(name, around.members.view) is not None
        if known or name == around.settings.model.name:
            message = f"No worker of the model {name!r} is ready."
            raise ApiError(503, message, param="model", code="no_worker")
        raise unknown_model(name)


def _offer(name: str, workers: list[Instance]) -> Offer:
    first = workers[0]
    features = frozenset(first.capabilities).intersection(*(one.capabilities for one in workers))
    longest = min(one.max_model_len for one in workers)
    path = None if first.engine == "hello" else first.path
    return Offer(name, first.model, path, first.block_size, longest, features)

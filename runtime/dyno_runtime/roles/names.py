"""What clients may ask for: the names that workers were given, and further names that were added while they run.

In: the keys `/{cluster}/models/{name}`, and who is there. Out: for the name that a client asks for the name that
the workers have. Names are compared whole.

A further name lives under a lease of its own, which every worker of its model keeps alive (`NameKeeper`): it dies
with the last of them. Deleting its key removes it at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dyno_runtime.bus.base import Down, Refused, Store
from dyno_runtime.core.view import View
from dyno_runtime.wire.codec import BadFrame, decode_model_name, encode_model_name
from dyno_runtime.wire.messages import Instance, ModelName
from dyno_runtime.wire.names import model_key, split_model_key

log = logging.getLogger("dyno.names")

NAME_TTL_S = 10.0


class Names:
    """See the module; a `KeyListener`."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self.added: dict[str, ModelName] = {}
        self._changed = changed

    def put(self, key: str, value: bytes) -> None:
        name = split_model_key(key)
        try:
            self.added[name] = decode_model_name(value)
        except BadFrame as error:
            log.error("%s is ignored: %s", key, error)
            return
        log.info("%s is a name of %s now", name, self.added[name].model)
        self._changed()

    def gone(self, key: str) -> None:
        name = split_model_key(key)
        if self.added.pop(name, None) is not None:
            log.info("%s is not a name of a model any more", name)
            self._changed()

    def model_of(self, name: str, view: View) -> str | None:
        """The name that the workers have, whether they are ready or not; None where nobody has such a model."""
        models = {one.model for one in view.of("decode")}
        if name in models:
            return name
        added = self.added.get(name)
        return added.model if added is not None and added.model in models else None

    def served(self, view: View) -> dict[str, list[Instance]]:
        """Every name that can be asked for now, with the decode workers that are ready for it."""
        ready: dict[str, list[Instance]] = {}
        for one in view.ready("decode"):
            ready.setdefault(one.model, []).append(one)
        further = {
            name: ready[added.model]
            for name, added in sorted(self.added.items())
            if name not in ready and added.model in ready
        }
        return {**ready, **further}


class NameKeeper:
    """A worker's part: keeps the further names of its model alive, until they are removed."""

    def __init__(self, cluster: str, model: str, store: Store, names: Names) -> None:
        self._cluster = cluster
        self._model = model
        self._store = store
        self._names = names
        self._kept: dict[str, ModelName] = {}

    async def keep(self) -> None:
        """Work until cancelled."""
        while True:
            self._kept |= {name: one for name, one in self._names.added.items() if one.model == self._model}
            for name, kept in list(self._kept.items()):
                try:
                    await self._prolong(name, kept)
                except (Down, Refused) as error:
                    log.debug("cannot keep the name %s: %s", name, error)
            await asyncio.sleep(NAME_TTL_S / 3)

    async def _prolong(self, name: str, kept: ModelName) -> None:
        alive = await self._store.refresh(kept.lease)
        now = self._names.added.get(name)
        if now not in (kept, None) or (alive and now is None):
            # Whoever removes a name deletes its key and leaves the lease: so this was meant.
            del self._kept[name]
        elif not alive:
            log.warning("the name %s was lost with etcd's leases; making it again", name)
            key = model_key(self._cluster, name)
            await self._store.hold(kept.lease, NAME_TTL_S, {key: encode_model_name(kept)})

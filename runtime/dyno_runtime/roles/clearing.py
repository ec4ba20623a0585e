"""The prefill queue of a cluster that begins again.

In: the queue, the registry, who we are. Out: what an earlier life left in the queue is gone, unless somebody lives
who may have pushed it. The order matters: items up to `newest` were pushed by processes that were registered before
it was read; if none of them is registered afterwards, nobody waits for these items.
"""

from __future__ import annotations

import asyncio
import logging
from random import Random

from dyno_runtime.bus.base import Down, Queue, Refused
from dyno_runtime.bus.registry import Registry
from dyno_runtime.wire.messages import LeaseId

log = logging.getLogger("dyno.process")


async def clear_queue(queue: Queue, registry: Registry, model: str, own: LeaseId, rng: Random) -> None:
    """See the module; tries until it is done. Whoever calls it pushes and pulls nothing before."""
    await registry.registered.wait()
    while True:
        try:
            newest = await queue.last()
            if not await registry.living("decode", model) - {own}:
                await queue.purge(newest)
            return
        except (Down, Refused) as error:
            log.debug("cannot clear the queue yet: %s", error)
            await asyncio.sleep(rng.uniform(0.1, 0.5))

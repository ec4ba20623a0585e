"""`python -m dyno_runtime purge SETTINGS`: removes what a cluster left in etcd and in NATS.

In: settings, and which of the two are to be cleaned. Out: what was removed, `{"etcd_keys": 3, "stream":
"hello_prefill", "problems": []}`; a second time `{"etcd_keys": 0, "stream": null, "problems": []}`. Bounded; what
could not be reached is a problem, a sentence each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import msgspec

from dyno_runtime.bus.base import Down, Refused
from dyno_runtime.bus.connect import make_queue, make_store
from dyno_runtime.bus.nats import NoJetStream
from dyno_runtime.settings import ProcessSettings
from dyno_runtime.wire.names import cluster_prefix, prefill_stream

DEADLINE_S = 10.0
KEPT = (
    "instances",
    "models",
    "config",
    "planner",
)  # what is ours below the cluster's name; etcd may hold others'


class Purged(msgspec.Struct):
    """What was removed, and what was in the way."""

    etcd_keys: int = 0
    stream: str | None = None
    problems: list[str] = []


async def purge(settings: ProcessSettings, services: Collection[str]) -> Purged:
    """Remove everything of the cluster; never raises for a service that is away."""
    purged = Purged()
    both = {"etcd": _purge_etcd, "nats": _purge_nats}
    await asyncio.gather(*(both[name](settings, purged) for name in services))
    purged.problems.sort()
    return purged


async def _purge_etcd(settings: ProcessSettings, purged: Purged) -> None:
    try:
        store = make_store(settings)
        try:
            async with asyncio.timeout(DEADLINE_S):
                ours = cluster_prefix(settings.cluster)
                purged.etcd_keys = await store.delete(*(f"{ours}{kept}/" for kept in KEPT))
        finally:
            await store.close()
    except (Down, Refused) as error:
        purged.problems.append(str(error))
    except TimeoutError:
        purged.problems.append(f"etcd did not answer within {DEADLINE_S:g} s")


async def _purge_nats(settings: ProcessSettings, purged: Purged) -> None:
    queue = make_queue(settings, lambda: None)
    queue.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            await queue.connected()
            if await queue.delete():
                purged.stream = prefill_stream(settings.cluster)
    except NoJetStream:
        pass  # without JetStream there is no stream that could be left
    except (Down, Refused) as error:
        purged.problems.append(str(error))
    except TimeoutError:
        purged.problems.append(queue.problem or f"NATS did not answer within {DEADLINE_S:g} s")
    finally:
        await queue.close()

"""Who is there: keeps this process registered, and a view of everybody else, over any `Store`.

In: the instances to announce. Out: `seen` and `gone` to a `Listener`, and `changed` to it when anything about our own
registration changes. An etcd that does not answer is waited for, and nobody is `gone` meanwhile. A lease that
was lost is made again with the same number and data. `lost` is set where etcd answers and refuses for `grace_s`.
What an earlier process of the same unit left there, killed before it could withdraw, ends when we first register.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from random import Random
from typing import Protocol

from dyno_runtime.bus.base import Change, Down, Refused, Snapshot, Store
from dyno_runtime.wire.codec import BadFrame, decode_instance, encode_instance
from dyno_runtime.wire.messages import Instance, LeaseId, Role
from dyno_runtime.wire.names import instance_key, instances_prefix, split_instance_key

log = logging.getLogger("dyno.registry")

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0
WITHDRAW_S = 3.0


@dataclass(frozen=True)
class Lease:
    """How this process is registered."""

    cluster: str
    lease: LeaseId
    ttl_s: float
    grace_s: float


class Listener(Protocol):
    """Who wants to know."""

    def seen(self, instance: Instance) -> None:
        """An instance was registered, or what it says of itself changed."""

    def gone(self, role: Role, lease: LeaseId) -> None:
        """An instance's lease ended."""

    def changed(self) -> None:
        """Our own registration, or etcd, is up or down."""


class Registry:
    """See the module."""

    def __init__(self, store: Store, lease: Lease, rng: Random, listener: Listener) -> None:
        self.up = False
        self.held = False  # our entries are in etcd under a living lease, as far as we know
        self.problem: str | None = None
        self.lost = asyncio.Event()
        self.registered = asyncio.Event()  # our entries were in etcd at least once
        self._store = store
        self._lease = lease
        self._rng = rng
        self._listener = listener
        self._known: set[str] = set()
        self._missing: set[str] = set()  # known before, and not in the last full read
        self._entries: dict[str, bytes] = {}
        self._units: set[tuple[str, str]] = set()  # (node, unit): what is announced as ours
        self._kick = asyncio.Event()
        self._refused_since_s: float | None = None
        self._blind: str | None = None  # why the others cannot be watched
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to register and to watch; nothing is waited for."""
        loop = asyncio.get_running_loop()
        self.tasks = [loop.create_task(self._keep()), loop.create_task(self._watch())]

    def announce(self, *instances: Instance) -> None:
        """From now on these are what this process is, replacing what it was."""
        self._entries = {
            instance_key(self._lease.cluster, one.role, one.lease): encode_instance(one) for one in instances
        }
        self._units = {(one.node, one.unit) for one in instances}
        self.held = False
        self._kick.set()

    async def living(self, role: Role, model: str) -> set[LeaseId]:
        """The leases of a role for a model that etcd knows right now; one that cannot be read may be one of them.
        Raises Down, Refused."""
        found = set()
        for key, value in (await self._store.read(instances_prefix(self._lease.cluster))).entries.items():
            of_role, lease = split_instance_key(key)
            if of_role == role and _model_of(value) in (model, None):
                found.add(lease)
        return found

    async def withdraw(self) -> None:
        """End the lease, so that peers stop sending. Bounded; an etcd that is away ends it by itself."""
        self.tasks, tasks = self.tasks[1:], self.tasks[:1]
        await _cancel(tasks)
        self._entries = {}
        self.held = False
        try:
            async with asyncio.timeout(WITHDRAW_S):
                await self._store.revoke(self._lease.lease)
        except (Down, Refused, TimeoutError) as error:
            reason = str(error) or "etcd does not answer"
            log.warning("could not end the lease, it expires within %.0f s: %s", self._lease.ttl_s, reason)
        self._listener.changed()

    async def close(self) -> None:
        """Stop watching and let go of the store."""
        tasks, self.tasks = self.tasks, []
        await _cancel(tasks)
        await self._store.close()

    # ---- our own lease

    async def _keep(self) -> None:
        failures = 0
        while True:
            self._kick.clear()
            try:
                await self._beat()
                failures = 0
                wait_s = self._lease.ttl_s / 3
            except (Down, Refused) as error:
                failures += 1
                self._note_trouble(error)
                wait_s = self._backoff_s(failures)
            if self.lost.is_set():
                return
            await _wait(self._kick, wait_s)

    async def _beat(self) -> None:
        if self._entries and not self.held:
            entries = self._entries
            if not self.registered.is_set():
                await self._succeed()
            await self._store.hold(self._lease.lease, self._lease.ttl_s, entries)
            self._note_up(held=entries is self._entries)
        elif not await self._store.refresh(self._lease.lease):
            if self._entries:
                log.warning("lease %s was lost; making it again", self._lease.lease)
                self.held = False
                self._kick.set()
            self._note_up(held=False)
        else:
            self._note_up(held=self.held)

    async def _succeed(self) -> None:
        """End the leases of our predecessors: a unit runs once, so whoever stands there under its name is dead, and
        peers need not find that out by asking. Only before we first register; a twin would not give way either."""
        entries = (await self._store.read(instances_prefix(self._lease.cluster))).entries
        dead = set()
        for key, value in entries.items():
            try:
                one = decode_instance(value)
            except BadFrame:
                continue
            if (one.node, one.unit) in self._units and one.lease != self._lease.lease:
                dead.add(split_instance_key(key)[1])
        for lease in dead:
            log.info("the lease %s of a dead predecessor ends", lease)
            await self._store.revoke(lease)

    def _note_up(self, *, held: bool) -> None:
        if not self.up:
            log.info("etcd is up")
        before = (self.up, self.held, self.problem)
        self.up, self.held, self.problem = True, held, self._blind
        self._refused_since_s = None
        if held:
            self.registered.set()
        if before != (True, held, self._blind):
            self._listener.changed()

    def _note_trouble(self, error: Down | Refused) -> None:
        reason = str(error) or "etcd does not answer"
        now_s = asyncio.get_running_loop().time()
        if isinstance(error, Refused):
            self._refused_since_s = self._refused_since_s or now_s
            if now_s - self._refused_since_s >= self._lease.grace_s:
                self.lost.set()
        else:
            # Nobody can tell whether the lease lives; it is found out when etcd answers again.
            self._refused_since_s = None
        if self.up or self.problem != reason:
            log.warning("%s", reason)
            self.up, self.problem = False, reason
            self._listener.changed()

    def _note_blind(self, reason: str | None) -> None:
        """We cannot see the others, or can again; a problem of our own lease goes before."""
        if reason == self._blind:
            return
        before, self._blind = self._blind, reason
        if reason is not None:
            log.warning("watching again: %s", reason)
        if self.problem in (None, before):
            self.problem = reason
            self._listener.changed()

    # ---- everybody else

    async def _watch(self) -> None:
        failures = 0
        prefix = instances_prefix(self._lease.cluster)
        while True:
            try:
                snapshot = await self._store.read(prefix)
                self._note_blind(None)
                failures = 0
                resync = asyncio.get_running_loop().create_task(self._sync(snapshot))
                try:
                    async for change in self._store.watch(prefix, snapshot.revision + 1):
                        self._take(change)
                finally:
                    await _cancel([resync])
            except (Down, Refused) as error:
                failures += 1
                reason = str(error) or "etcd does not answer"
                if failures > 1 or isinstance(error, Refused):
                    self._note_blind(reason)
                else:
                    log.debug("watching again: %s", reason)
                await asyncio.sleep(self._backoff_s(failures))

    async def _sync(self, snapshot: Snapshot) -> None:
        """Take a full read. An etcd that has just come back may not have been told of everybody yet, so those
        that it does not show are asked for again once they had the time to register: a dead worker costs
        one retry, a forgotten one an outage."""
        for key, value in snapshot.entries.items():
            self._put(key, value)
        self._missing = self._known - snapshot.entries.keys()
        if not self._missing:
            return
        await asyncio.sleep(self._lease.ttl_s)
        try:
            entries = (await self._store.read(instances_prefix(self._lease.cluster))).entries
        except (Down, Refused):
            return  # the watch fails as well and starts over
        for key in self._missing - entries.keys():
            self._delete(key)

    def _take(self, change: Change) -> None:
        if change.value is None:
            self._delete(change.key)
        else:
            self._put(change.key, change.value)

    def _put(self, key: str, value: bytes) -> None:
        try:
            instance = decode_instance(value)
        except BadFrame as error:
            log.warning("ignoring %s: %s", key, error)
            return
        self._known.add(key)
        self._missing.discard(key)
        self._listener.seen(instance)

    def _delete(self, key: str) -> None:
        if key in self._known:
            self._known.discard(key)
            role, lease = split_instance_key(key)
            self._listener.gone(role, lease)

    def _backoff_s(self, failures: int) -> float:
        longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(failures, 10))
        return float(longest * self._rng.uniform(0.5, 1.0))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _model_of(value: bytes) -> str | None:
    try:
        return decode_instance(value).model
    except BadFrame:
        return None


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""The registry over the store in memory: every bad day of etcd, and one good day of the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Literal

import msgspec
import pytest

from dyno_runtime.bus.base import Down, Refused, Snapshot
from dyno_runtime.bus.etcd import EtcdStore
from dyno_runtime.bus.memory.kv import Kv, MemoryStore
from dyno_runtime.bus.registry import Lease, Registry
from dyno_runtime.wire.messages import Address, Instance, Role

TTL_S = 0.3


def instance(lease: str, role: Role = "decode", state: Literal["loading", "ready"] = "ready") -> Instance:
    return Instance(role, lease, f"n{lease}", f"{role}-0", Address("10.0.0.1", 7300), "hello", state)


class Seen:
    """A listener that remembers who is there."""

    def __init__(self) -> None:
        self.there: dict[tuple[str, str], Instance] = {}
        self.events: list[tuple[str, ...]] = []

    def seen(self, one: Instance) -> None:
        self.there[one.role, one.lease] = one
        self.events.append(("seen", one.lease, one.state))

    def gone(self, role: Role, lease: str) -> None:
        del self.there[role, lease]
        self.events.append(("gone", lease))

    def changed(self) -> None:
        pass

    def leases(self) -> set[str]:
        return {lease for _, lease in self.there}


def member(kv: Kv, lease: str, **lives: float) -> tuple[Registry, Seen]:
    seen = Seen()
    settings = Lease("hello", lease, lives.get("ttl_s", TTL_S), lives.get("grace_s", 5.0))
    registry = Registry(MemoryStore(kv), settings, Random(1), seen)
    registry.announce(instance(lease))
    registry.start()
    return registry, seen


async def soon(check: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.005)


async def test_members_see_each_other_come_change_and_go():
    kv = Kv()
    (one, sees), (two, _) = member(kv, "01"), member(kv, "02")
    await soon(lambda: sees.leases() == {"01", "02"})
    two.announce(instance("02", state="loading"))
    await soon(lambda: sees.there["decode", "02"].state == "loading")
    await two.withdraw()
    await soon(lambda: sees.leases() == {"01"})
    await one.close()
    await two.close()
    kv.close()


async def test_the_lease_outlives_its_ttl_while_the_process_lives():
    kv = Kv()
    one, sees = member(kv, "01")
    await soon(lambda: sees.leases() == {"01"})
    await asyncio.sleep(3 * TTL_S)
    assert sees.events == [("seen", "01", "ready")]
    assert one.held
    await one.close()
    kv.close()


async def test_a_lost_lease_is_made_again_with_number_and_data():
    kv = Kv()
    one, sees = member(kv, "01")
    await soon(lambda: one.held)
    kv.expire("01")
    await soon(lambda: sees.events[-2:] == [("gone", "01"), ("seen", "01", "ready")])
    await soon(lambda: one.held)
    await one.close()
    kv.close()


async def test_while_etcd_is_away_nobody_is_gone_and_nothing_is_lost():
    kv = Kv()
    (one, sees), (two, _) = member(kv, "01", grace_s=0.2), member(kv, "02")
    await soon(lambda: sees.leases() == {"01", "02"})
    kv.fail()
    await soon(lambda: not one.up)
    assert one.problem == "etcd in memory does not answer"
    await asyncio.sleep(3 * TTL_S)
    assert sees.leases() == {"01", "02"}
    assert not one.lost.is_set()
    kv.down = False
    await soon(lambda: one.up and one.held and one.problem is None)
    await one.close()
    await two.close()
    kv.close()


async def test_a_unit_that_is_started_again_ends_what_its_killed_predecessor_left():
    kv = Kv()
    (watcher, sees), (killed, _) = member(kv, "01"), member(kv, "02", ttl_s=60.0)
    await soon(lambda: sees.leases() == {"01", "02"})
    await killed.close()  # as a kill does: the lease goes on
    again = Registry(MemoryStore(kv), Lease("hello", "03", TTL_S, 5.0), Random(1), Seen())
    again.announce(msgspec.structs.replace(instance("02"), lease="03"))
    again.start()
    await soon(lambda: sees.leases() == {"01", "03"})
    assert [event for event in sees.events if event[1] != "01"] == [
        ("seen", "02", "ready"),
        ("gone", "02"),
        ("seen", "03", "ready"),
    ]
    await again.close()
    await watcher.close()
    kv.close()


async def test_an_etcd_that_comes_back_empty_costs_nobody_his_place():
    kv = Kv()
    (one, sees), (two, _), (dead, _) = member(kv, "01"), member(kv, "02"), member(kv, "03")
    await soon(lambda: sees.leases() == {"01", "02", "03"})
    kv.fail()
    await soon(lambda: not one.up)
    await dead.close()
    for lease in ("01", "02", "03"):
        kv.expire(lease)
    kv.history.clear()
    kv.down = False
    # The dead one is dropped once everybody had the time to come back; the living ones never were gone.
    await soon(lambda: sees.leases() == {"01", "02"})
    assert ("gone", "01") not in sees.events
    assert ("gone", "02") not in sees.events
    await soon(lambda: one.held and two.held)
    await one.close()
    await two.close()
    kv.close()


async def test_an_etcd_that_refuses_for_the_whole_grace_loses_the_lease():
    kv = Kv()
    one, _ = member(kv, "01", grace_s=0.2)
    await soon(lambda: one.held)
    kv.refusing = "no space"
    await soon(lambda: one.lost.is_set())
    assert one.problem == "etcd in memory refused: no space"
    await one.close()
    kv.close()


async def test_refusals_shorter_than_the_grace_are_forgiven():
    kv = Kv()
    one, _ = member(kv, "01", grace_s=30.0)
    await soon(lambda: one.held)
    kv.refusing = "no space"
    kv.expire("01")
    await soon(lambda: one.problem is not None)
    kv.refusing = None
    await soon(lambda: one.held and one.problem is None)
    assert not one.lost.is_set()
    await one.close()
    kv.close()


async def test_withdrawing_without_etcd_ends_soon_and_says_so(caplog):
    kv = Kv()
    one, _ = member(kv, "01")
    await soon(lambda: one.held)
    kv.down = True
    async with asyncio.timeout(2.0):
        await one.withdraw()
    assert "could not end the lease, it expires within 0 s: etcd in memory does not answer" in caplog.text
    await one.close()
    kv.close()


async def test_an_entry_that_cannot_be_read_is_ignored_and_named(caplog):
    kv = Kv()
    kv.grant("99", 10.0)
    kv.put("/hello/instances/decode/99", b"nonsense", "99")
    one, sees = member(kv, "01")
    await soon(lambda: sees.leases() == {"01"})
    assert "ignoring /hello/instances/decode/99: an instance that cannot be read: " in caplog.text
    await one.close()
    kv.close()


async def test_living_asks_etcd_and_not_the_memory():
    kv = Kv()
    one, sees = member(kv, "01")
    await soon(lambda: sees.leases() == {"01"})
    assert await one.living("decode", "hello") == {"01"}
    assert await one.living("decode", "another model") == set()
    assert await one.living("prefill", "hello") == set()
    kv.put("/hello/instances/decode/99", b"nonsense", "99")
    assert await one.living("decode", "another model") == {"99"}, "who cannot be read may be one"
    await one.close()
    kv.close()


@pytest.mark.servers
async def test_the_same_over_real_etcd(own_etcd):
    seen = Seen()
    registry = Registry(
        EtcdStore((own_etcd.url,)), Lease("hello", "00000000000000aa", 3.0, 30.0), Random(1), seen
    )
    registry.announce(instance("00000000000000aa"))
    registry.start()
    await soon(lambda: seen.leases() == {"00000000000000aa"})
    own_etcd.kill()
    await soon(lambda: not registry.up)
    own_etcd.wipe()
    own_etcd.start()
    await soon(lambda: registry.up and registry.held, 15.0)
    assert ("gone", "00000000000000aa") not in seen.events
    assert await registry.living("decode", "hello") == {"00000000000000aa"}
    await registry.withdraw()
    await soon(lambda: seen.leases() == set())
    await registry.close()


class Blindfold(MemoryStore):
    """A store that answers all but reads of everybody."""

    refusing: Exception | None = None

    async def read(self, prefix: str) -> Snapshot:
        if self.refusing is not None:
            raise self.refusing
        return await super().read(prefix)


async def test_others_that_cannot_be_watched_are_a_problem_while_the_lease_is_fine():
    kv = Kv()
    store = Blindfold(kv)
    one = Registry(store, Lease("hello", "01", TTL_S, 5.0), Random(1), Seen())
    one.announce(instance("01"))
    one.start()
    await soon(lambda: one.held)
    store.refusing = Refused("etcd refused: permission denied")
    kv.fail()
    await asyncio.sleep(0.02)  # the watch ends
    kv.down = False
    await soon(lambda: one.held and one.up and one.problem == "etcd refused: permission denied")
    await asyncio.sleep(TTL_S)
    assert one.problem == "etcd refused: permission denied"
    assert not one.lost.is_set()
    store.refusing = None
    await soon(lambda: one.problem is None)
    await one.close()
    kv.close()


async def test_a_trouble_without_words_is_given_some():
    kv = Kv()
    one, _ = member(kv, "01")
    one._note_trouble(Down(""))
    assert one.problem == "etcd does not answer"
    await one.close()
    kv.close()

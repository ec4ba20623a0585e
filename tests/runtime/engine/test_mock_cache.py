"""The KV blocks of the mock engine against a plain account of them: nothing leaks, the oldest goes first."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dyno_runtime.core.blocks import block_hashes
from dyno_runtime.engine.base import KvCleared, KvRemoved, KvStored
from dyno_runtime.engine.mock.cache import KvCache
from tests.runtime.engine.virtual import replayed

SIZE = 2


def fill(cache: KvCache, tokens: list[int]) -> list[int]:
    """Use blocks for these tokens, and name the full ones, as a job does that computes them."""
    names = block_hashes(tokens, SIZE, 0)
    known = cache.find(names)
    blocks = cache.claim(known, -(-len(tokens) // SIZE) - len(known))
    assert blocks is not None
    done = len(known)
    parent = names[done - 1] if done else 0
    cache.name(blocks[done : len(names)], names[done:], parent, tokens[done * SIZE : len(names) * SIZE])
    return blocks


def test_a_prefix_is_found_again_and_shared():
    cache = KvCache(8, SIZE)
    first = fill(cache, [1, 2, 3, 4, 5])
    second = fill(cache, [1, 2, 3, 4, 9])
    assert first[:2] == second[:2]
    assert first[2] != second[2]
    assert (cache.active, cache.idle) == (4, 0)
    cache.release(first)
    assert (cache.active, cache.idle) == (3, 0)
    cache.release(second)
    assert (cache.active, cache.idle) == (0, 2)


def test_the_tail_goes_before_the_head_and_the_oldest_before_the_youngest():
    cache = KvCache(4, SIZE)
    old, young = block_hashes([1, 2, 3, 4], SIZE, 0), block_hashes([5, 6, 7, 8], SIZE, 0)
    cache.release(fill(cache, [1, 2, 3, 4]))
    cache.release(fill(cache, [5, 6, 7, 8]))
    cache.flush()
    gone = []
    for _ in range(4):
        assert cache.claim([], 1) is not None
        gone += [name for change in cache.flush() if isinstance(change, KvRemoved) for name in change.hashes]
    assert gone == [old[1], old[0], young[1], young[0]]


def test_what_is_used_again_is_young_again():
    cache = KvCache(4, SIZE)
    cache.release(fill(cache, [1, 2]))
    cache.release(fill(cache, [5, 6]))
    cache.release(fill(cache, [1, 2]))
    assert cache.claim([], 3) is not None
    assert cache.held() == block_hashes([1, 2], SIZE, 0)


def test_no_room_changes_nothing():
    cache = KvCache(3, SIZE)
    cache.release(fill(cache, [1, 2]))
    known = cache.find(block_hashes([1, 2], SIZE, 0))
    assert cache.claim(known, 3) is None
    assert (cache.active, cache.idle) == (0, 1)
    assert cache.claim(known, 2) is not None


def test_changes_are_told_in_order_with_parent_and_tokens():
    cache = KvCache(3, SIZE)
    names = block_hashes([1, 2, 3, 4], SIZE, 0)
    blocks = fill(cache, [1, 2, 3, 4])
    more = cache.claim([], 1)
    assert more is not None
    after = block_hashes([5, 6], SIZE, names[1])
    cache.name(more, after, names[1], [5, 6])
    assert cache.flush() == [KvStored([*names, *after], 0, [1, 2, 3, 4, 5, 6])]
    cache.release(blocks + more)
    assert cache.claim([], 2) is not None
    assert cache.flush() == [KvRemoved([after[0], names[1]])]
    cache.clear()
    assert cache.flush() == [KvCleared()]
    assert cache.flush() == []


def test_clearing_leaves_blocks_to_their_users():
    cache = KvCache(4, SIZE)
    used = fill(cache, [1, 2])
    cache.release(fill(cache, [3, 4]))
    cache.clear()
    assert (cache.active, cache.idle, cache.held()) == (1, 0, [])
    cache.release(used)
    assert (cache.active, cache.idle) == (0, 0)
    assert cache.claim([], 4) is not None


class Account:
    """The same rules, told plainly and slowly: users of each name, and the names that nobody uses, oldest first."""

    def __init__(self) -> None:
        self.users: dict[int, int] = {}
        self.idle: list[int] = []

    def use(self, names: list[int]) -> None:
        for name in names:
            if name in self.idle:
                self.idle.remove(name)
            self.users[name] = self.users.get(name, 0) + 1

    def leave(self, names: list[int]) -> None:
        for name in reversed(names):
            self.users[name] -= 1
            if not self.users[name]:
                del self.users[name]
                self.idle.append(name)


@given(st.integers(0, 2**32), st.integers(4, 12))
def test_it_is_what_a_plain_account_says(seed: int, total: int):
    rng = random.Random(seed)
    cache, account = KvCache(total, SIZE), Account()
    jobs: list[tuple[list[int], list[int]]] = []
    told: set[int] = set()
    for _ in range(60):
        if jobs and rng.random() < 0.45:
            held, names = jobs.pop(rng.randrange(len(jobs)))
            cache.release(held)
            account.leave(names)
        else:
            names = block_hashes([rng.randrange(2) for _ in range(SIZE * rng.randint(1, 4))], SIZE, 0)
            known = cache.find(names)
            new = len(names) - len(known)
            blocks = cache.claim(known, new)
            room = (
                total
                - len(account.users)
                - len([name for name in names[: len(known)] if name in account.idle])
            )
            assert (blocks is not None) == (new <= room), "room is what nobody uses"
            if blocks is None:
                continue
            account.use(names[: len(known)])
            short = len(account.users) + len(account.idle) + new - total
            del account.idle[: max(short, 0)]
            done = len(known)
            cache.name(blocks[done:], names[done:], names[done - 1] if done else 0, [0] * SIZE * new)
            account.use(names[done:])
            jobs.append((blocks, names))
        told = replayed(cache.flush(), told)
        assert told == set(cache.held()) == account.users.keys() | set(account.idle)
        assert (cache.active, cache.idle) == (len(account.users), len(account.idle))
    for held, _ in jobs:
        cache.release(held)
    assert cache.active == 0

"""The prefix index against a plain model of it, its bounds, and what it does when workers come and go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dyno_runtime.core.prefix_index import PrefixIndex

A, B, C = "a", "b", "c"


def index_of(**held: list[int]) -> PrefixIndex:
    index = PrefixIndex()
    for worker, blocks in held.items():
        index.add(worker)
        index.store(worker, blocks)
    return index


def test_each_worker_matches_from_the_first_block_on():
    index = index_of(a=[1, 2, 3], b=[1, 2], c=[2, 3])
    assert index.match([1, 2, 3, 4]) == {A: 3, B: 2}
    assert index.match([2, 3]) == {A: 2, B: 1, C: 2}
    assert index.match([9]) == {}
    assert index.match([]) == {}


def test_a_hole_ends_the_match():
    index = index_of(a=[1, 2, 3])
    index.drop(A, [2])
    assert index.match([1, 2, 3]) == {A: 1}


def test_a_cleared_worker_starts_again():
    index = index_of(a=[1, 2], b=[1])
    index.clear(A)
    assert index.match([1, 2]) == {B: 1}
    index.store(A, [1])
    assert index.match([1, 2]) == {A: 1, B: 1}
    assert index.held == {A: 1, B: 1}


def test_last_words_of_a_worker_that_is_gone_are_ignored():
    index = index_of(a=[1])
    index.remove(A)
    index.store(A, [2])
    index.drop(A, [1])
    index.expect(A, [3], 1.0)
    index.clear(A)
    index.remove(A)
    assert (index.match([1]), index.match([2]), index.match([3]), len(index)) == ({}, {}, {}, 0)


def test_a_dead_workers_bit_is_not_given_to_another_before_it_is_swept_out():
    index = index_of(a=list(range(5000)), b=[1])
    index.remove(A)
    assert index.match([1]) == {B: 1}
    index.add(C)
    assert index.match([0, 1, 2]) == {}, "the newcomer inherits nothing"
    index.store(C, [0])
    assert index.match([0, 1, 2]) == {C: 1}
    index.sweep(10_000)
    assert len(index) == 2
    index.add(A)
    assert index.match([1]) == {B: 1}


def test_each_change_sweeps_a_little():
    index = index_of(a=list(range(5000)), b=[])
    index.remove(A)
    before = len(index)
    index.store(B, [9999])
    assert len(index) == before - 1024 + 1


def test_bits_are_used_again():
    index = PrefixIndex()
    for number in range(1000):
        index.add(f"w{number}")
        index.store(f"w{number}", [number])
        index.remove(f"w{number}")
    assert len(index._bits) == 1


def test_workers_that_come_and_go_faster_than_the_sweep_do_not_pile_up():
    index = index_of(a=list(range(100_000)))
    for number in range(1000):
        index.add(f"w{number}")
        index.store(f"w{number}", [number])
        index.remove(f"w{number}")
    assert len(index._bits) < 200


# ---- expected blocks -------------------------------------------------------------------------------------


def test_a_routed_prompt_counts_until_it_expires():
    index = index_of(a=[])
    index.expect(A, [1, 2], until_s=5.0)
    assert index.match([1, 2]) == {A: 2}
    index.expire(4.9)
    assert index.match([1, 2]) == {A: 2}
    index.expire(5.0)
    assert index.match([1, 2]) == {}
    assert (index.expected, index.held, len(index)) == (0, {A: 0}, 0)


def test_an_event_confirms_it():
    index = index_of(a=[])
    index.expect(A, [1, 2], until_s=5.0)
    index.store(A, [1])
    index.expire(5.0)
    assert index.match([1, 2]) == {A: 1}


def test_a_removal_ends_it():
    index = index_of(a=[])
    index.expect(A, [1], until_s=5.0)
    index.drop(A, [1])
    assert (index.match([1]), index.expected) == ({}, 0)


def test_the_later_of_two_expectations_counts():
    index = index_of(a=[])
    index.expect(A, [1, 2], until_s=5.0)
    index.expect(A, [1], until_s=9.0)
    index.expire(5.0)
    assert index.match([1, 2]) == {A: 1}
    index.expire(9.0)
    assert (index.match([1]), index.expected) == ({}, 0)


def test_what_a_worker_said_does_not_expire():
    index = index_of(a=[1])
    index.expect(A, [1, 2], until_s=5.0)
    index.expire(5.0)
    assert index.match([1, 2]) == {A: 1}


def test_nothing_expected_of_an_earlier_life_expires_in_the_next():
    index = index_of(a=[])
    index.expect(A, [1], until_s=5.0)
    index.remove(A)
    index.add(A)
    index.store(A, [1])
    index.expire(5.0)
    assert index.match([1]) == {A: 1}


# ---- bounds ----------------------------------------------------------------------------------------------


def test_the_oldest_are_forgotten_and_of_a_chain_its_tail():
    index = PrefixIndex(max_blocks=100)
    index.add(A)
    index.store(A, list(range(60)))
    index.store(A, list(range(100, 145)))
    assert len(index) <= 100
    assert index.match(list(range(60))) == {A: 55}
    assert index.match(list(range(100, 145))) == {A: 45}
    assert index.held == {A: 100}


def test_what_is_asked_for_stays():
    index = PrefixIndex(max_blocks=100)
    index.add(A)
    index.store(A, list(range(50)))
    index.store(A, list(range(100, 150)))
    index.expect(A, list(range(50)), 1.0)
    index.store(A, list(range(200, 250)))
    assert index.match(list(range(50))) == {A: 50}
    assert index.match([100]) == {}


def test_more_in_one_go_than_there_is_room_for():
    index = PrefixIndex(max_blocks=100)
    index.add(A)
    index.expect(A, list(range(1000)), until_s=5.0)
    assert len(index) == index.expected == 100
    assert index.match(list(range(1000))) == {A: 100}
    index.expire(5.0)
    assert (len(index), index.expected, index.held) == (0, 0, {A: 0})


@given(st.integers(1, 1200), st.data())
def test_any_number_of_workers(count: int, data: st.DataObject):
    index = PrefixIndex()
    deep = data.draw(st.dictionaries(st.integers(0, count - 1), st.integers(1, 20), max_size=12))
    for number in range(count):
        index.add(f"w{number}")
        index.store(f"w{number}", list(range(deep.get(number, 1))))
    expected = {f"w{number}": deep.get(number, 1) for number in range(count)}
    assert index.match(list(range(20))) == expected


class Against(RuleBasedStateMachine):
    """The index, and next to it plain sets of blocks."""

    workers = st.sampled_from(["a", "b", "c", "d"])
    blocks = st.lists(st.integers(0, 12), max_size=8, unique=True)

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex()
        self.said: dict[str, set[int]] = {}
        self.hoped: dict[str, dict[int, float]] = {}
        self.now_s = 0.0

    @rule(worker=workers)
    def add(self, worker: str) -> None:
        self.index.add(worker)
        self.said.setdefault(worker, set())
        self.hoped.setdefault(worker, {})

    @rule(worker=workers)
    def remove(self, worker: str) -> None:
        self.index.remove(worker)
        self.said.pop(worker, None)
        self.hoped.pop(worker, None)

    @rule(worker=workers)
    def clear(self, worker: str) -> None:
        self.index.clear(worker)
        if worker in self.said:
            self.said[worker], self.hoped[worker] = set(), {}

    @rule(worker=workers, blocks=blocks)
    def store(self, worker: str, blocks: list[int]) -> None:
        self.index.store(worker, blocks)
        if worker in self.said:
            self.said[worker] |= set(blocks)
            for block in blocks:
                self.hoped[worker].pop(block, None)

    @rule(worker=workers, blocks=blocks)
    def drop(self, worker: str, blocks: list[int]) -> None:
        self.index.drop(worker, blocks)
        if worker in self.said:
            self.said[worker] -= set(blocks)
            for block in blocks:
                self.hoped[worker].pop(block, None)

    @rule(worker=workers, blocks=blocks, wait_s=st.integers(1, 5))
    def expect(self, worker: str, blocks: list[int], wait_s: int) -> None:
        self.index.expect(worker, blocks, self.now_s + wait_s)
        if worker in self.said:
            hoped = self.hoped[worker]
            for block in set(blocks) - self.said[worker]:
                hoped[block] = max(hoped.get(block, 0.0), self.now_s + wait_s)

    @rule(wait_s=st.integers(0, 4))
    def wait(self, wait_s: int) -> None:
        self.now_s += wait_s
        self.index.expire(self.now_s)
        for worker, hoped in self.hoped.items():
            self.hoped[worker] = {block: until for block, until in hoped.items() if until > self.now_s}

    @invariant()
    def agrees(self) -> None:
        held = {worker: said | self.hoped[worker].keys() for worker, said in self.said.items()}
        assert {worker: self.index.blocks_of(worker) for worker in held} == held
        assert self.index.held == {worker: len(blocks) for worker, blocks in held.items()}
        assert self.index.expected == sum(len(hoped) for hoped in self.hoped.values())
        prompt = list(range(13))
        depth = {
            worker: next((place for place in prompt if place not in blocks), 13)
            for worker, blocks in held.items()
        }
        assert self.index.match(prompt) == {worker: found for worker, found in depth.items() if found}


TestAgainst = Against.TestCase

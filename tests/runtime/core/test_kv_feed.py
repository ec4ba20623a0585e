"""What a worker holds reaches a router whole, in whatever way the network treats it."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from dyno_runtime.core.kv_feed import ASK_AGAIN_AT_MOST_S, ASK_AGAIN_S, MAX_EARLY, PATIENCE_S, Feed
from dyno_runtime.core.kv_ledger import Ledger
from dyno_runtime.wire.kv import KvAsk, KvBatch, KvSnapshot


def batches(*numbers: int) -> list[KvBatch]:
    return [KvBatch(number, (number,)) for number in numbers]


# ---- the ledger ------------------------------------------------------------------------------------------


def test_one_step_is_one_batch():
    ledger = Ledger()
    ledger.stored([1, 2, 3])
    assert ledger.flush() == KvBatch(1, (1, 2, 3))
    assert ledger.flush() is None
    ledger.removed([2])
    ledger.stored([4])
    assert ledger.flush() == KvBatch(2, (4,), (2,))


def test_what_comes_and_goes_within_a_step_is_not_told():
    ledger = Ledger()
    ledger.stored([1])
    ledger.flush()
    ledger.stored([2])
    ledger.removed([2, 1])
    ledger.stored([1])
    assert ledger.flush() is None
    assert ledger.held == {1}


def test_twice_is_once_and_the_unknown_is_ignored():
    ledger = Ledger()
    ledger.stored([1, 1])
    ledger.removed([9])
    assert ledger.flush() == KvBatch(1, (1,))


def test_cleared_comes_before_what_the_step_stored_after_it():
    ledger = Ledger()
    ledger.stored([1, 2])
    ledger.flush()
    ledger.removed([1])
    ledger.cleared()
    ledger.stored([2, 3])
    assert ledger.flush() == KvBatch(2, (2, 3), (), True)
    assert ledger.held == {2, 3}


def test_missed_batches_are_told_again_while_they_are_kept():
    ledger = Ledger(kept_blocks=6)
    for block in range(5):
        ledger.stored([block])
        ledger.flush()
    assert ledger.since(5) == []
    assert ledger.since(3) == [KvBatch(4, (3,)), KvBatch(5, (4,))]
    assert ledger.since(1) == KvSnapshot(5, (0, 1, 2, 3, 4))


def test_a_snapshot_is_sent_where_it_is_shorter():
    ledger = Ledger()
    for _ in range(10):
        ledger.stored([1])
        ledger.flush()
        ledger.removed([1])
        ledger.flush()
    assert ledger.since(0) == KvSnapshot(20)


def test_a_snapshot_is_of_the_last_batch_not_of_now():
    ledger = Ledger(kept_blocks=0)
    ledger.stored([1, 2])
    ledger.flush()
    ledger.removed([1])
    ledger.stored([3])
    snapshot = ledger.since(0)
    assert isinstance(snapshot, KvSnapshot)
    assert (snapshot.seq, set(snapshot.held)) == (1, {1, 2})


# ---- the feed --------------------------------------------------------------------------------------------


def test_batches_in_order_are_applied_at_once():
    feed = Feed()
    one, two = batches(1, 2)
    assert feed.take(one, 0.0) == ([one], None)
    assert feed.take(two, 0.0) == ([two], None)


def test_a_batch_that_comes_twice_is_ignored():
    feed = Feed()
    feed.take(batches(1)[0], 0.0)
    assert feed.take(batches(1)[0], 0.0) == ([], None)


def test_a_gap_is_asked_about_once_and_what_came_early_waits():
    feed = Feed()
    one, two, three, four = batches(1, 2, 3, 4)
    feed.take(one, 0.0)
    assert feed.take(three, 0.0) == ([], KvAsk(1))
    assert feed.take(four, 0.0) == ([], None)
    assert feed.replay([two, three]) == [two, three, four]
    assert (feed.seq, feed.behind) == (4, False)


def test_a_late_batch_fills_the_gap_itself():
    feed = Feed()
    one, two = batches(1, 2)
    feed.take(two, 0.0)
    assert feed.take(one, 0.0) == ([one, two], None)
    assert feed.due(1000.0) is None


def test_an_answer_that_does_not_come_is_asked_for_again_ever_more_rarely():
    feed = Feed()
    feed.take(batches(2)[0], 10.0)
    asked: list[float] = []
    now_s = 10.0
    while len(asked) < 8:
        now_s += 0.25
        if feed.due(now_s) == KvAsk(0):
            asked.append(now_s)
    gaps = [late - early for early, late in zip([10.0, *asked], asked, strict=False)]
    assert gaps[:4] == [ASK_AGAIN_S, 1.0, 2.0, 4.0]
    assert gaps[-1] == ASK_AGAIN_AT_MOST_S


def test_a_lost_last_batch_is_known_from_a_report():
    feed = Feed()
    feed.take(batches(1)[0], 0.0)
    feed.heard(2, 0.0)
    assert feed.due(PATIENCE_S / 2) is None
    assert feed.due(PATIENCE_S) == KvAsk(1)


def test_a_report_that_overtakes_its_batch_is_no_reason_to_ask():
    feed = Feed()
    feed.heard(1, 0.0)
    feed.take(batches(1)[0], PATIENCE_S / 2)
    assert feed.due(1000.0) is None


def test_a_snapshot_starts_anew_and_an_old_one_is_ignored():
    feed = Feed()
    five, six = batches(5, 6)
    assert feed.join(0.0) == KvAsk(0)
    feed.take(six, 0.0)
    feed.take(five, 0.0)
    assert feed.snapshot(KvSnapshot(5)) == [six]
    assert feed.snapshot(KvSnapshot(5)) is None
    assert not feed.behind


def test_only_so_many_batches_wait():
    feed = Feed()
    for batch in batches(*range(2, MAX_EARLY + 100)):
        feed.take(batch, 0.0)
    ready = feed.replay(batches(1))
    assert len(ready) == 1 + MAX_EARLY
    assert feed.behind


@given(st.integers(0, 10_000))
def test_any_loss_order_and_repetition_ends_in_the_truth(seed: int):
    rng = Random(seed)
    ledger, feed, known = Ledger(kept_blocks=rng.choice([0, 20, 1000])), Feed(), set[int]()

    def apply(ready: list[KvBatch]) -> None:
        for batch in ready:
            if batch.cleared:
                known.clear()
            known.difference_update(batch.removed)
            known.update(batch.stored)

    def hear(answer: list[KvBatch] | KvSnapshot) -> None:
        if isinstance(answer, KvSnapshot):
            ready = feed.snapshot(answer)
            if ready is not None:
                known.clear()
                known.update(answer.held)
                apply(ready)
        else:
            apply(feed.replay(answer))

    on_its_way: list[KvBatch] = []
    for step in range(40):
        getattr(ledger, rng.choice(["stored", "stored", "removed"]))(rng.choices(range(30), k=5))
        if rng.random() < 0.05:
            ledger.cleared()
        batch = ledger.flush()
        if batch is not None and rng.random() < 0.8:
            on_its_way += [batch] * rng.choice([1, 1, 2])
        if rng.random() < 0.5:
            rng.shuffle(on_its_way)
            while on_its_way:
                ready, ask = feed.take(on_its_way.pop(), float(step))
                apply(ready)
                if ask is not None and rng.random() < 0.5:
                    hear(ledger.since(ask.after))
    feed.heard(ledger.seq, 50.0)
    ask = feed.due(1000.0)
    assert (ask is not None) == feed.behind
    if ask is not None:
        hear(ledger.since(ask.after))
    assert known == ledger.held
    assert not feed.behind

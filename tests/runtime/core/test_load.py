"""What a router believes of its workers' load: reports, what it did itself, and that nothing is left at the end."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dyno_runtime.core.load import STALE_S, UNSEEN_S, LoadBook, Work
from dyno_runtime.wire.kv import LoadReport

A, B = "a", "b"


def book(*workers: str) -> LoadBook:
    made = LoadBook()
    for worker in workers:
        made.add(worker)
    return made


def counts(made: LoadBook, worker: str) -> tuple[int, int, int, int]:
    load = made.workers[worker]
    return load.running, load.waiting, load.queued_tokens, load.active_blocks


def test_a_request_counts_from_the_moment_it_is_routed():
    made = book(A, B)
    made.routed("r", A, tokens=100, blocks=7, now_s=0.0)
    assert counts(made, A) == (0, 1, 100, 7)
    made.begun("r", 1.0)
    assert counts(made, A) == (1, 0, 0, 7)
    made.ended("r", 2.0)
    assert counts(made, A) == counts(made, B) == (0, 0, 0, 0)


def test_a_request_that_never_began_takes_its_tokens_away_with_it():
    made = book(A)
    made.routed("r", A, 100, 7, 0.0)
    made.ended("r", 1.0)
    assert counts(made, A) == (0, 0, 0, 0)


def test_everything_is_counted_once():
    made = book(A)
    made.routed("r", A, 100, 7, 0.0)
    for _ in range(2):
        made.begun("r", 1.0)
    assert counts(made, A) == (1, 0, 0, 7)
    for _ in range(2):
        made.ended("r", 2.0)
    made.begun("r", 3.0)
    assert counts(made, A) == (0, 0, 0, 0)


def test_a_retry_leaves_the_first_worker():
    made = book(A, B)
    made.routed("r", A, 100, 7, 0.0)
    made.routed("r", B, 50, 7, 1.0)
    assert (counts(made, A), counts(made, B)) == ((0, 0, 0, 0), (0, 1, 50, 7))


def test_a_report_replaces_what_was_believed():
    made = book(A)
    made.routed("r", A, 100, 7, 0.0)
    made.report(A, LoadReport(3, 2, 500, 40, 100), 1.0)
    assert counts(made, A) == (3, 2, 500, 40)
    assert made.workers[A].usage == 0.4
    made.begun("r", 2.0)
    assert counts(made, A) == (4, 1, 400, 40)


def test_a_report_cannot_know_of_what_was_just_routed():
    made = book(A)
    made.routed("old", A, 100, 7, 0.0)
    made.routed("new", A, 30, 2, 1.0)
    made.report(A, LoadReport(0, 1, 100, 7, 100), 1.0 + UNSEEN_S / 2)
    assert counts(made, A) == (0, 2, 130, 9)
    made.report(A, LoadReport(0, 2, 130, 9, 100), 1.0 + UNSEEN_S * 2)
    assert counts(made, A) == (0, 2, 130, 9)


def test_what_a_report_took_away_already_is_not_shown_below_zero():
    made = book(A)
    made.routed("r", A, 100, 7, 0.0)
    made.report(A, LoadReport(0, 0, 0, 0, 100), 1.0)
    made.ended("r", 1.5)
    assert counts(made, A) == (0, 0, 0, 0)


def test_without_reports_for_long_only_ones_own_requests_count():
    made = book(A)
    made.routed("r", A, 100, 7, 0.0)
    made.report(A, LoadReport(9, 9, 999, 99, 100), 1.0)
    made.expire(1.0 + STALE_S)
    assert counts(made, A) == (9, 9, 999, 99)
    made.expire(1.1 + STALE_S)
    assert counts(made, A) == (0, 1, 100, 7)
    made.ended("r", 9.0)
    assert counts(made, A) == (0, 0, 0, 0)


def test_a_dead_worker_takes_its_requests_with_it():
    made = book(A, B)
    made.routed("r", A, 100, 7, 0.0)
    made.routed("s", B, 100, 7, 0.0)
    made.remove(A)
    assert len(made) == 1
    made.begun("r", 1.0)
    made.ended("r", 1.0)
    made.add(A)
    assert counts(made, A) == (0, 0, 0, 0)


def test_the_unknown_is_ignored():
    made = book()
    made.report(A, LoadReport(1, 1, 1, 1, 1), 0.0)
    made.routed("r", A, 1, 1, 0.0)
    made.remove(A)
    assert (len(made), made.workers) == (0, {})


def test_usage_is_nothing_where_the_worker_never_said_how_much_it_has():
    made = book(A)
    made.routed("r", A, 100, 7, 0.0)
    assert made.workers[A].usage == 0.0


class Life(RuleBasedStateMachine):
    """Any order of everything: what a router counts of its own is exactly what is in flight."""

    requests = st.sampled_from(["r", "s", "t", "u"])
    workers = st.sampled_from(["a", "b", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.book = LoadBook()
        self.flying: dict[str, tuple[str, int, int, bool]] = {}
        self.now_s = 0.0

    @rule(worker=workers)
    def add(self, worker: str) -> None:
        self.book.add(worker)

    @rule(worker=workers)
    def remove(self, worker: str) -> None:
        self.book.remove(worker)
        self.flying = {key: one for key, one in self.flying.items() if one[0] != worker}

    @rule(request=requests, worker=workers, tokens=st.integers(1, 99), blocks=st.integers(0, 9))
    def routed(self, request: str, worker: str, tokens: int, blocks: int) -> None:
        self.book.routed(request, worker, tokens, blocks, self.now_s)
        self.flying.pop(request, None)
        if worker in self.book.workers:
            self.flying[request] = (worker, tokens, blocks, False)

    @rule(request=requests)
    def begun(self, request: str) -> None:
        self.book.begun(request, self.now_s)
        if request in self.flying:
            self.flying[request] = (*self.flying[request][:3], True)

    @rule(request=requests)
    def ended(self, request: str) -> None:
        self.book.ended(request, self.now_s)
        self.flying.pop(request, None)

    @rule(worker=workers, number=st.integers(0, 50))
    def report(self, worker: str, number: int) -> None:
        self.book.report(worker, LoadReport(number, number, number, number, 100), self.now_s)

    @rule(wait_s=st.sampled_from([0.001, 0.01, 0.1, 10.0]))
    def wait(self, wait_s: float) -> None:
        self.now_s += wait_s
        self.book.expire(self.now_s)

    @invariant()
    def own_is_exact_and_nothing_is_negative(self) -> None:
        assert len(self.book) == len(self.flying)
        for worker, load in self.book.workers.items():
            mine = [one for one in self.flying.values() if one[0] == worker]
            assert load.own == Work(
                running=sum(begun for *_, begun in mine),
                waiting=sum(not begun for *_, begun in mine),
                queued_tokens=sum(tokens for _, tokens, _, begun in mine if not begun),
                active_blocks=sum(blocks for _, _, blocks, _ in mine),
            )
            assert min(counts(self.book, worker)) >= 0
            if load.reported_s is None:
                shown = Work(*counts(self.book, worker))
                assert shown == load.own

    def teardown(self) -> None:
        for request in list(self.flying):
            self.ended(request)
        self.wait(10.0)
        for worker in self.book.workers:
            assert counts(self.book, worker) == (0, 0, 0, 0)


TestLife = Life.TestCase

"""Ports: named ones are taken as they are, chosen ones stay, and step aside only for strangers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynoctl.errors import Blocked
from dynoctl.plan.ports import RANGE, STREAM_BASE, PortBook


def test_the_lowest_free_port_is_chosen() -> None:
    book = PortBook("n1", busy={7300, 7301})
    assert book.chosen("decode-0.stream", 7300) == 7302
    assert book.chosen("decode-1.stream", 7300) == 7303


def test_a_recorded_port_is_kept_whatever_is_free_now() -> None:
    assert PortBook("n1", {"decode-0.stream": 7344}).chosen("decode-0.stream", 7300) == 7344


def test_a_port_recorded_for_another_use_is_not_chosen() -> None:
    assert PortBook("n1", {"decode-1.stream": 7300}).chosen("decode-0.stream", 7300) == 7301


def test_a_named_port_wins_over_a_recorded_one() -> None:
    book = PortBook("n1", {"decode-0.stream": 7300})
    book.named("frontend-0.http", 7300)
    assert book.chosen("decode-0.stream", 7300) == 7301


def test_a_recorded_port_that_a_stranger_took_is_given_up() -> None:
    assert PortBook("n1", {"decode-0.stream": 7300}, busy={7300}).chosen("decode-0.stream", 7300) == 7301


def test_a_named_port_does_not_step_aside() -> None:
    assert PortBook("n1", busy={8000}).named("frontend-0.http", 8000) == 8000


def test_no_free_port_is_an_error_that_says_where_to_look() -> None:
    book = PortBook("n1", busy=set(range(7300, 7400)))
    with pytest.raises(Blocked) as caught:
        book.chosen("decode-0.stream", 7300)
    assert str(caught.value) == "n1: no free TCP port for decode-0.stream from 7300 to 7399"
    assert caught.value.next == "ssh n1 ss -ltn"


def test_a_row_has_no_gap_keeps_its_place_and_grows_where_it_can() -> None:
    assert PortBook("n1", busy={5601}).row("decode-0.kv", 5600, 2) == [5602, 5603]
    had = {"decode-0.kv.0": 5610, "decode-0.kv.1": 5611, "decode-1.kv.0": 5613}
    assert PortBook("n1", had).row("decode-0.kv", 5600, 3) == [5610, 5611, 5612]
    assert PortBook("n1", had).row("decode-0.kv", 5600, 4) == [5600, 5601, 5602, 5603]
    assert PortBook("n1", had, busy={5611}).row("decode-0.kv", 5600, 2) == [5600, 5601]
    book = PortBook("n1", {"decode-0.kv.0": 5600, "decode-0.kv.1": 5605})  # as it was once recorded
    assert book.row("decode-0.kv", 5600, 2) == [5600, 5601]
    assert book.given == {"decode-0.kv.0": 5600, "decode-0.kv.1": 5601}
    with pytest.raises(Blocked) as caught:
        PortBook("n1", busy=set(range(5600, 5700, 2))).row("decode-0.kv", 5600, 2)
    assert str(caught.value) == "n1: no 2 free TCP ports in a row for decode-0.kv from 5600 to 5699"


@given(
    busy=st.sets(st.integers(7290, 7330)),
    recorded=st.dictionaries(st.sampled_from("abcdef"), st.integers(7295, 7310), max_size=6),
    named=st.dictionaries(st.sampled_from("xyz"), st.integers(7295, 7310), max_size=3),
)
def test_ports_never_collide(busy: set[int], recorded: dict[str, int], named: dict[str, int]) -> None:
    book = PortBook("n1", recorded, busy)
    for use, port in named.items():
        book.named(use, port)
    chosen = [book.chosen(use, 7300) for use in "abcdef"]
    assert len(set(chosen)) == len(chosen)
    assert not set(chosen) & set(named.values())
    assert not set(chosen) & busy


def test_every_role_has_its_own_hundred_below_the_kernels() -> None:
    bases = sorted(STREAM_BASE.values())
    assert all(later - earlier >= RANGE for earlier, later in itertools.pairwise(bases))
    assert bases[-1] + RANGE <= 32768

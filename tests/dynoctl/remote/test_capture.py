"""One stream, taken in piece by piece."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynoctl.remote.capture import Capture, ReaderFailed, TooMuch


def cut(content: bytes, places: list[int]) -> list[bytes]:
    """The content in pieces, cut at these places."""
    edges = [0, *sorted(place % (len(content) + 1) for place in places), len(content)]
    return [content[start:end] for start, end in itertools.pairwise(edges)]


@given(st.binary(), st.binary(), st.lists(st.integers(min_value=0), max_size=8))
def test_noise_before_the_mark_is_dropped_however_it_is_cut(
    noise: bytes, content: bytes, places: list[int]
) -> None:
    capture = Capture(mark=b"m4rk")
    noise = noise.replace(b"m4rk", b"")
    for piece in cut(noise + b"m4rk\n" + content, places):
        capture.feed(piece)
    assert capture.begun
    assert (capture.noise, capture.finish()) == (noise, content)


@given(st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8"))), st.lists(st.integers(0)))
def test_lines_are_whole_however_they_are_cut(lines: list[str], places: list[int]) -> None:
    told: list[str] = []
    capture = Capture(on_line=told.append)
    content = "".join(f"{line}\n" for line in lines).encode()
    for piece in cut(content, places):
        capture.feed(piece)
    assert capture.finish() == content
    assert told == lines


def test_without_a_mark_in_sight_nothing_has_begun() -> None:
    capture = Capture(mark=b"m4rk")
    capture.feed(b"This account is closed.\n")
    assert not capture.begun
    assert (capture.noise, capture.finish()) == (b"This account is closed.\n", b"")


def test_endless_noise_is_an_error() -> None:
    capture = Capture(mark=b"m4rk")
    with pytest.raises(TooMuch, match="printed more than 1 MB before the script began"):
        capture.feed(bytes(1_000_001))


def test_too_much_output_is_an_error_where_all_of_it_counts() -> None:
    capture = Capture(keep_bytes=10_000_000)
    capture.feed(bytes(10_000_000))
    with pytest.raises(TooMuch, match="printed more than 10 MB"):
        capture.feed(b"x")


def test_where_lines_are_told_the_last_bytes_are_kept() -> None:
    told: list[str] = []
    capture = Capture(on_line=told.append, keep_bytes=10)
    for number in range(100):
        capture.feed(b"%03d\n" % number)
    assert len(told) == 100
    assert capture.finish() == b"098\n099\n"


def test_a_line_without_an_end_is_told_in_parts() -> None:
    told: list[str] = []
    capture = Capture(on_line=told.append)
    capture.feed(b"x" * 1_000_001)
    capture.feed(b"y\n")
    assert [len(line) for line in told] == [1_000_001, 1]


def test_what_the_reader_raises_is_kept_apart() -> None:
    def reader(line: str) -> None:
        raise TimeoutError(line)

    with pytest.raises(ReaderFailed) as caught:
        Capture(on_line=reader).feed(b"one\n")
    assert isinstance(caught.value.cause, TimeoutError)

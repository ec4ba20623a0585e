"""Stop strings and stop tokens: the same answer however it is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from dyno_runtime.text.answer import Answer, Stop
from dyno_runtime.text.detokenize import detokenizer
from dyno_runtime.text.pieces import byte_pieces
from dyno_runtime.text.stop import StopStrings

TEXT = st.text(alphabet="abé😀", max_size=24)
STOPS = st.lists(st.text(alphabet="abé😀", min_size=1, max_size=4), min_size=1, max_size=4)
CUTS = st.lists(st.integers(1, 6), max_size=30)


def cut(whole: Any, cuts: list[int]) -> list[Any]:
    """The parts of `whole`, in these sizes; what is left comes as the last."""
    parts, place = [], 0
    for size in cuts:
        parts.append(whole[place : place + size])
        place += size
    return [part for part in [*parts, whole[place:]] if part]


def first_stop(text: str, strings: Sequence[str], armed_from: int = 0) -> tuple[int, str] | None:
    """By definition: character by character, the string that began first of those that are complete now."""
    for end in range(armed_from + 1, len(text) + 1):
        ending = [one for one in strings if text[:end].endswith(one)]
        if ending:
            longest = max(ending, key=len)
            return end - len(longest), longest
    return None


@given(TEXT, STOPS, CUTS, st.booleans())
@example("aab", ["ab", "aab"], [1, 1, 1], False)
@example("aaab", ["aab"], [2, 2], True)
def test_strings_in_any_portions(text, strings, cuts, include):
    stop = StopStrings(strings, include=include)
    shown, fed = "", 0
    for part in cut(text, cuts):
        shown += stop.feed(part)
        if stop.hit is not None:
            fed += stop.used_chars
            break
        fed += len(part)
        # Never more held back than what could still become a stop string.
        held = text[len(shown) : fed]
        assert shown + held == text[:fed]
        assert held == "" or any(one.startswith(held) and one != held for one in strings)
        assert not any(
            one.startswith(text[place:fed])
            for one in strings
            for place in range(len(shown))
            if place < fed - len(held)
        )
    found = first_stop(text, strings)
    if found is None:
        assert shown + stop.flush() == text
        assert stop.hit is None
    else:
        start, hit = found
        assert stop.hit == hit
        assert fed == start + len(hit)
        assert shown == text[: start + len(hit) if include else start]


def told(tokens: list[int], stop: Stop, cuts: list[int]) -> tuple[str, int, str | int | None]:
    answer = Answer(detokenizer(byte_pieces()), stop)
    text = "".join([answer.feed(part) for part in cut(tokens, cuts)])
    return text + answer.finish(), answer.tokens, answer.stop


def by_definition(tokens: list[int], stop: Stop) -> tuple[str, int, str | int | None]:
    """Token by token over the whole text so far."""
    for count, token in enumerate(tokens, 1):
        before = bytes(tokens[: count - 1]).decode("utf-8", "replace")
        if count > stop.min_tokens and token in stop.tokens:
            shown = bytes(tokens[:count]).decode("utf-8", "replace") if stop.include else before
            return shown, count, token
        if count > stop.min_tokens and stop.strings:
            armed_from = len(whole_characters(tokens[: max(stop.min_tokens, 0)]))
            found = first_stop(whole_characters(tokens[:count]), stop.strings, armed_from)
            if found is not None:
                start, hit = found
                text = whole_characters(tokens[:count])
                return text[: start + len(hit) if stop.include else start], count, hit
    return bytes(tokens).decode("utf-8", "replace"), len(tokens), None


def whole_characters(tokens: list[int]) -> str:
    return bytes(tokens).decode("utf-8", "ignore")


@given(
    text=TEXT,
    strings=st.one_of(st.just([]), STOPS),
    stop_bytes=st.sets(st.sampled_from(list(b"ab")), max_size=1),
    min_tokens=st.integers(0, 12),
    include=st.booleans(),
    cuts=CUTS,
)
def test_answers_in_any_portions(text, strings, stop_bytes, min_tokens, include, cuts):
    stop = Stop(tuple(strings), frozenset(stop_bytes), min_tokens, include)
    tokens = list(text.encode())
    assert told(tokens, stop, cuts) == by_definition(tokens, stop)


def test_a_stop_string_across_tokens_is_never_shown():
    answer = Answer(detokenizer(byte_pieces()), Stop(("\n\nUser:",)))
    shown = [answer.feed([byte]) for byte in b"Yes.\n\nNo.\n\nUser: more"]
    assert "".join(shown) == "Yes.\n\nNo."
    assert (answer.stopped, answer.stop, answer.tokens) == (True, "\n\nUser:", 16)
    assert answer.finish() == ""


def test_nothing_is_held_back_without_need():
    answer = Answer(detokenizer(byte_pieces()), Stop(("END",)))
    assert [answer.feed([byte]) for byte in b"an E of EN"] == [*"an ", "", "E ", "o", "f", " ", "", ""]
    assert answer.finish() == "EN"
    assert (answer.stopped, answer.tokens) == (False, 10)


def test_a_stop_token_gives_up_what_was_held_back():
    answer = Answer(detokenizer(byte_pieces()), Stop(("END",), frozenset({0})))
    assert answer.feed([*b"the EN", 0, *b"D"]) == "the EN"
    assert (answer.stop, answer.tokens) == (0, 7)


def test_a_stop_that_comes_too_early_is_text():
    stop = Stop(("b",), frozenset({ord("c")}), min_tokens=4)
    assert told(list(b"abcbabc"), stop, [7]) == ("abcba", 6, "b")
    assert told(list(b"abcaac"), stop, [2, 3]) == ("abcaa", 6, ord("c"))


def test_broken_characters_at_the_end_are_told_once():
    answer = Answer(detokenizer(byte_pieces()), Stop(("�",)))
    assert answer.feed([*b"ab", 0xF0, 0x9F]) == "ab"
    assert answer.finish() == ""
    assert (answer.stopped, answer.stop) == (True, "�")
    plain = Answer(detokenizer(byte_pieces()), Stop())
    assert plain.feed([*b"ab", 0xF0, 0x9F]) == "ab"
    assert plain.finish() == "�"

"""Text given out piece by piece is the text of all tokens, for every kind of tokenizer."""

from __future__ import annotations

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import decoders

from dyno_runtime.text.detokenize import BAD, Detokenizer, Window, detokenizer
from dyno_runtime.text.pieces import byte_pieces, table_for
from tests.models import KINDS, make_tokenizer

TABLES = ("bpe", "fallback", "unigram", "large")
REUSES_MODELS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def slow_tokenizer(folder_of, kind) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(folder_of(kind) / "tokenizer.json"))


@pytest.fixture(scope="session")
def slow_of(folder_of):
    loaded: dict[str, tokenizers.Tokenizer] = {}

    def slow(kind):
        if kind not in loaded:
            loaded[kind] = slow_tokenizer(folder_of, kind)
        return loaded[kind]

    return slow


def told(one: Detokenizer, ids: list[int], cuts: list[int] | None = None) -> list[str]:
    """What a detokenizer says to `ids`, given in portions of these sizes (one by one at first, by default)."""
    pieces, place = [], 0
    for size in [*(cuts or []), *[1] * len(ids)]:
        if place >= len(ids):
            break
        pieces.append(one.feed(ids[place : place + size]))
        place += size
    return [*pieces, one.flush()]


CUTS = st.lists(st.integers(1, 5), max_size=20)


@REUSES_MODELS
@given(data=st.data(), cuts=CUTS, kind=st.sampled_from(["bpe", "unigram", "large"]))
def test_random_ids(data, cuts, kind, model_of, slow_of):
    """Whatever a model says: broken characters, special tokens in the middle, ids that mean nothing."""
    top = model_of(kind).tokenizer.vocab_size + 3
    ids = data.draw(st.lists(st.integers(0, top), max_size=30))
    expected = slow_of(kind).decode(ids, skip_special_tokens=True)
    assert "".join(told(model_of(kind).tokenizer.detokenizer(), ids, cuts)) == expected


@REUSES_MODELS
@given(data=st.data(), cuts=CUTS, kind=st.sampled_from(["bpe", "unigram", "large", "fallback"]))
def test_random_ids_with_special_tokens_kept(data, cuts, kind, model_of, slow_of):
    pieces = table_for(slow_of(kind))
    assert pieces is not None
    ids = data.draw(st.lists(st.integers(0, len(pieces.table)), max_size=30))
    if pieces.bad_bytes == "each":
        ids = [one for one in ids if one < len(pieces.table) and isinstance(pieces.table[one], str)]
    expected = slow_of(kind).decode(ids, skip_special_tokens=False)
    one = model_of(kind).tokenizer.detokenizer(keep_special=True)
    assert "".join(told(one, ids, cuts)) == expected


@REUSES_MODELS
@given(text=st.text(max_size=60), cuts=CUTS, kind=st.sampled_from([*TABLES, "wordpiece"]))
def test_any_text(text, cuts, kind, model_of, slow_of):
    ids = slow_of(kind).encode(text).ids
    expected = slow_of(kind).decode(ids, skip_special_tokens=True)
    assert "".join(told(model_of(kind).tokenizer.detokenizer(), ids, cuts)) == expected


@REUSES_MODELS
@given(text=st.text(alphabet="aé😀的 \n", max_size=40), cuts=CUTS, kind=st.sampled_from(TABLES))
def test_no_piece_splits_a_character(text, cuts, kind, model_of):
    tokenizer = model_of(kind).tokenizer
    pieces = told(tokenizer.detokenizer(), tokenizer.encode(text), cuts)
    assert not any(BAD in piece for piece in pieces)


@REUSES_MODELS
@given(
    cuts=CUTS,
    parts=st.lists(
        st.one_of(st.text(alphabet="é😀的", min_size=1, max_size=3), st.binary(max_size=3)), max_size=8
    ),
)
def test_byte_tokens(cuts, parts, model_of, slow_of):
    """Whole characters as soon as they are whole, one U+FFFD for each byte that is no part of one."""
    slow, one = slow_of("fallback"), model_of("fallback").tokenizer.detokenizer()
    separator = slow.token_to_id("a")
    ids, expected = [separator], "a"
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        run = [slow.token_to_id(f"<0x{byte:02X}>") for byte in raw]
        assert None not in run
        ids += [*run, separator]
        expected += _each(raw) + "a"
        if isinstance(part, str) or _each(raw).count(BAD) == len(raw):
            assert slow.decode([separator, *run, separator]) == f"a{_each(raw)}a"
    assert "".join(told(one, ids, cuts)) == expected


def _ids(slow: tokenizers.Tokenizer, *tokens: str) -> list[int]:
    found = [slow.token_to_id(token) for token in tokens]
    return [one for one in found if one is not None]


def _each(raw: bytes) -> str:
    """Characters where there are some, U+FFFD for each other byte."""
    text = ""
    while raw:
        for size in range(min(4, len(raw)), 0, -1):
            try:
                text += raw[:size].decode()
            except UnicodeDecodeError:
                continue
            raw = raw[size:]
            break
        else:
            text, raw = text + BAD, raw[1:]
    return text


@pytest.mark.parametrize("kind", KINDS)
def test_window_is_right_for_real_text(kind, slow_of):
    """The way without a table, for tokenizers that we do not know."""
    slow = slow_of(kind)
    special = frozenset(number for number, one in slow.get_added_tokens_decoder().items() if one.special)
    text = "Hello  wörld 😀 的,\n\n def f(x):\n\treturn x  "
    ids = slow.encode(text).ids
    ids = [*ids[:7], *special, *ids[7:], *ids]
    assert "".join(told(Window(slow, special), ids)) == slow.decode(ids, skip_special_tokens=True)


def test_window_gives_up_on_a_character_that_never_gets_whole(slow_of):
    slow = slow_of("bpe")
    lead = slow.encode("😀", add_special_tokens=False).ids[:1]
    while slow.decode(lead) != BAD:
        lead = [lead[0] - 1]
    one = Window(slow)
    assert [one.feed(lead) for _ in range(16)] == [""] * 15 + [BAD * 16]


def test_fork_goes_on_from_the_same_point(model_of):
    for kind in (*TABLES, "wordpiece"):
        tokenizer = model_of(kind).tokenizer
        ids = tokenizer.encode(" aé😀 的b")
        for place in range(len(ids)):
            one = tokenizer.detokenizer()
            one.feed(ids[:place])
            twin = one.fork()
            rest = [twin.feed(ids[place:]), twin.flush()]
            assert [one.feed(ids[place:]), one.flush()] == rest


def test_first_space_stays_where_the_answer_continues_a_text(model_of):
    """Also after special tokens and after an empty portion."""
    for kind in ("fallback", "unigram"):
        tokenizer = model_of(kind).tokenizer
        ids = [1_000_000, *tokenizer.encode("a"), *tokenizer.encode("a")]
        assert tokenizer.detokenizer().feed(ids) == "a a"
        assert tokenizer.detokenizer(continues=True).feed(ids) == " a a"


def test_several_spaces_are_stripped_one_by_one():
    slow = make_tokenizer("fallback")
    slow.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 3, 0)]
    )
    pieces = table_for(slow)
    assert pieces is not None
    space, letter = _ids(slow, "▁", "a")
    for spaces in range(6):
        ids = [space] * spaces + [letter, space, letter]
        assert "".join(told(detokenizer(pieces), ids)) == slow.decode(ids) == " " * max(0, spaces - 3) + "a a"


@pytest.mark.parametrize(
    "decoder",
    [
        None,
        decoders.WordPiece(),
        decoders.BPEDecoder(),
        decoders.Sequence([decoders.Fuse(), decoders.Replace("▁", " ")]),
        decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)]),
        decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 0, 1)]),
        decoders.Sequence([decoders.Replace(tokenizers.Regex("▁"), " "), decoders.Fuse()]),
    ],
)
def test_no_table_for_an_unknown_decoder(decoder):
    slow = make_tokenizer("fallback")
    if decoder is not None:
        slow.decoder = decoder
    else:
        slow = make_tokenizer("wordpiece")
    assert table_for(slow) is None


def test_added_tokens_of_a_byte_level_tokenizer_are_plain_text():
    slow = make_tokenizer("bpe")
    slow.add_tokens(["<tool call>", "naïve word", "的"])
    pieces = table_for(slow)
    assert pieces is not None
    ids = _ids(slow, "<tool call>", "<think>", "naïve word", "的")
    assert detokenizer(pieces).feed(ids) == slow.decode(ids) == "<tool call><think>naïve word的"


@given(st.text(max_size=50), CUTS)
def test_bytes_for_tokens(text, cuts):
    pieces = told(detokenizer(byte_pieces()), list(text.encode()), cuts)
    assert "".join(pieces) == text


def test_bytes_of_a_token(model_of):
    tokenizer = model_of("bpe").tokenizer
    ids = tokenizer.encode("é😀 a<think></s>")
    assert b"".join(map(tokenizer.bytes_of, ids)) == "é😀 a<think></s>".encode()
    assert tokenizer.bytes_of(10**6) == b""
    assert model_of("wordpiece").tokenizer.bytes_of(44) == b"H"

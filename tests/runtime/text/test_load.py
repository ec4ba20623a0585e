"""Model folders: what is read, what is refused, which tokenizer is used and why."""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
from pathlib import Path

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyno_runtime.text.corpus import parity_corpus
from dyno_runtime.text.folder import BadModelFolder, read_folder
from dyno_runtime.text.load import load
from dyno_runtime.text.proof import encoding_difference
from dyno_runtime.text.tokenizer import ByteTokenizer
from tests.models import BOS, CONTEXT_TOKENS, EOS, make_model


def test_without_a_folder_a_token_is_a_byte():
    model = load(None)
    assert model.tokenizer.name == "bytes"
    assert model.tokenizer.encode("é!", add_special=True) == [0xC3, 0xA9, 0x21]
    assert model.tokenizer.vocab_size == 256
    assert (model.eos_ids, model.longest_tokens) == (frozenset(), None)
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    assert model.templates.render(messages) == "system: Be kind.\nuser: Hello\nassistant: "
    with pytest.raises(UnicodeEncodeError):
        model.tokenizer.encode("\ud800")
    model.tokenizer.close()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("bpe", "fastokens"),
        ("large", "fastokens"),
        ("fallback", "fastokens"),
        ("unigram", "tokenizers"),
        ("wordpiece", "tokenizers"),
    ],
)
def test_a_folder(kind, name, model_of, folder_of):
    model = model_of(kind)
    slow = tokenizers.Tokenizer.from_file(str(folder_of(kind) / "tokenizer.json"))
    assert model.tokenizer.name == name
    assert model.longest_tokens == CONTEXT_TOKENS
    assert model.eos_ids == {model.tokenizer.eos_id}
    assert model.tokenizer.vocab_size == slow.get_vocab_size()
    for text in parity_corpus(["<think>", EOS]):
        assert model.tokenizer.encode(text) == slow.encode(text, add_special_tokens=False).ids
        assert model.tokenizer.encode(text, add_special=True) == slow.encode(text).ids


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.one_of(st.text(max_size=200), st.text(alphabet=" \t\na'1é的<think>", max_size=80)))
def test_fastokens_does_the_same_on_any_text(text, model_of):
    for kind in ("bpe", "large"):
        one = model_of(kind).tokenizer
        assert one.encode(text) == one._slow.encode(text, add_special_tokens=False).ids


def test_fastokens_that_differs_is_not_used(tmp_path, caplog, monkeypatch):
    folder = make_model(tmp_path / "m", "bpe")

    class Off:
        """Gets the third token wrong where a text is long enough."""

        right: tokenizers.Tokenizer

        @classmethod
        def from_file(cls, path):
            one = cls()
            one.right = tokenizers.Tokenizer.from_file(path)
            return one

        def no_truncation(self):
            pass

        def no_padding(self):
            pass

        def encode(self, text):
            ids = self.right.encode(text, add_special_tokens=False).ids
            return type("E", (), {"ids": [*ids[:2], *(one + 1 for one in ids[2:])]})

    monkeypatch.setattr(sys.modules["fastokens"], "Tokenizer", Off)
    with caplog.at_level(logging.WARNING, "dyno.text"):
        model = load(folder)
    assert model.tokenizer.name == "tokenizers"
    said = parity_corpus()[0][:40]
    ids = model.tokenizer.encode(parity_corpus()[0])[2:5]
    assert caplog.messages == [
        f"{folder}: tokenizers and fastokens differ on {said + '…'!r} from token 2 on: "
        f"tokenizers {ids}, fastokens {[one + 1 for one in ids]}; encoding with tokenizers"
    ]


def test_differences_in_words():
    class Short:
        def encode(self, text):
            if "\n" in text:
                raise RuntimeError("the backtracking limit")
            return type("E", (), {"ids": slow.encode(text).ids[:1]})

    slow = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1}, []))
    assert encoding_difference(slow, Short(), ["a", "b", ""]) is None
    assert encoding_difference(slow, Short(), ["a", "ab"]) == (
        "tokenizers and fastokens differ on 'ab' from token 1 on: tokenizers [1], fastokens []"
    )
    assert encoding_difference(slow, Short(), ["a\n"]) == "fastokens fails on 'a\\n' (the backtracking limit)"


def test_fastokens_that_cannot_load_it_is_not_used(tmp_path, caplog):
    folder = make_model(tmp_path / "m", "unigram")
    with caplog.at_level(logging.WARNING, "dyno.text"):
        assert load(folder).tokenizer.name == "tokenizers"
    assert caplog.messages == [
        f"{folder}: fastokens does not load it (pre-tokenizer error: unsupported pre-tokenizer type: Metaspace); "
        "encoding with tokenizers"
    ]


def test_fastokens_can_be_left_out(folder_of):
    assert load(folder_of("bpe"), allow_fast=False).tokenizer.name == "tokenizers"


def test_a_text_that_fastokens_gives_up_on_is_encoded_all_the_same(folder_of):
    one = load(folder_of("bpe")).tokenizer

    class GivesUp:
        def encode(self, text):
            raise RuntimeError("the backtracking limit")

    expected = one.encode("some text")
    one._fast = GivesUp()  # type: ignore[attr-defined]
    assert one.encode("some text") == expected


@pytest.mark.parametrize(("kind", "form"), [("bpe", None), ("bpe", "NFC"), ("large", None), ("bytes", None)])
def test_no_token_stands_for_more_than_the_longest(kind, form, model_of, folder_of, tmp_path):
    if kind == "bytes":
        tokenizer = load(None).tokenizer
    elif form is None:
        tokenizer = model_of(kind).tokenizer
    else:
        (tmp_path / "model").mkdir()
        document = json.loads((folder_of(kind) / "tokenizer.json").read_text())
        document["normalizer"] = {"type": form}
        (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(document))
        tokenizer = load(tmp_path / "model").tokenizer
    longest = tokenizer.longest_chars
    assert longest == {"bytes": 1, "large": 128, "bpe": 384 if form is None else 1536}[kind]
    # Letters with two signs above them, which NFC makes one of; what is one token in most vocabularies.
    for text in ("\u03b1\u0313\u0301\u0345" * 400, " " * 4096, "=" * 4096, *parity_corpus(["<think>", EOS])):
        assert len(tokenizer.encode(text)) * longest >= len(text)


@pytest.mark.parametrize("kind", ["fallback", "unigram", "wordpiece"])
def test_where_a_text_may_lose_characters_nothing_is_said_of_it(kind, model_of):
    assert model_of(kind).tokenizer.longest_chars == math.inf


def test_an_added_token_that_swallows_spaces_is_one_of_any_length(tmp_path, folder_of):
    document = json.loads((folder_of("bpe") / "tokenizer.json").read_text())
    document["added_tokens"][-1]["lstrip"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    tokenizer = load(tmp_path).tokenizer
    assert len(tokenizer.encode(" " * 10_000 + document["added_tokens"][-1]["content"])) < 10
    assert tokenizer.longest_chars == math.inf


def test_truncation_and_padding_of_the_file_are_not_used(tmp_path):
    folder = make_model(tmp_path / "m", "bpe")
    path = folder / "tokenizer.json"
    one = tokenizers.Tokenizer.from_file(str(path))
    expected = one.encode("a b c d e f", add_special_tokens=False).ids
    one.enable_truncation(3)
    one.enable_padding(length=20)
    one.save(str(path))
    for allow_fast in (True, False):
        assert load(folder, allow_fast=allow_fast).tokenizer.encode("a b c d e f") == expected


@pytest.mark.parametrize(("adds", "before"), [(None, [BOS]), (True, [BOS]), (False, [])])
def test_bos_before_a_prompt(tmp_path, adds, before):
    changes = {} if adds is None else {"add_bos_token": adds}
    one = load(make_model(tmp_path / "m", "bpe", **changes)).tokenizer
    expected = [*(one._slow.token_to_id(token) for token in before), *one.encode("x y")]  # type: ignore[attr-defined]
    assert one.encode("x y", add_special=True) == expected


def test_bos_is_added_where_only_the_config_asks_for_it(tmp_path):
    folder = make_model(tmp_path / "m", "bpe", add_bos_token=True)
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    document["post_processor"] = None
    path.write_text(json.dumps(document))
    one = load(folder).tokenizer
    assert one.encode("x", add_special=True) == [one._slow.token_to_id(BOS), *one.encode("x")]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
async def test_long_texts_are_encoded_in_a_thread(kind, model_of, monkeypatch):
    one = model_of(kind).tokenizer
    short, long = one.encode("short", add_special=True), one.encode("long " * 9, add_special=True)
    ids, threads = one._ids, []

    def spy(text, *, apart):
        threads.append(threading.get_ident())
        return ids(text, apart=apart)

    monkeypatch.setattr(one, "_long_chars", 10)
    monkeypatch.setattr(one, "_ids", spy)
    assert await one.encode_long("short", add_special=True) == short
    assert await one.encode_long("long " * 9, add_special=True) == long
    assert threads[0] == threading.get_ident() != threads[1]


async def test_bytes_are_never_worth_a_thread():
    assert await ByteTokenizer().encode_long("a" * 10**5) == [97] * 10**5


def test_what_a_folder_may_hold(tmp_path):
    folder = make_model(tmp_path / "m", "bpe")
    (folder / "config.json").write_text(
        json.dumps(
            {"text_config": {"max_position_embeddings": 4096, "eos_token_id": [5, 6]}, "eos_token_id": 7}
        )
    )
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 8, None]}))
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"pad_token": {"content": "<pad>"}, "bos_token": "x"})
    )
    (folder / "chat_template.jinja").write_text("from the file")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("rag")
    read = read_folder(folder)
    assert read.eos_ids == {5, 6, 7, 8}
    assert read.longest_tokens == 4096
    assert read.special_tokens == {"pad_token": "<pad>", "bos_token": BOS, "eos_token": EOS}
    assert read.templates == {"default": "from the file", "rag": "rag"}


def test_templates_by_name_and_of_older_files(tmp_path):
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}, "nonsense"]
    folder = make_model(tmp_path / "m", "bpe", chat_template=named, model_max_length=100)
    read = read_folder(folder)
    assert read.templates == {"default": "d", "tool_use": "t"}
    assert read.longest_tokens == 100
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "older"}))
    assert read_folder(folder).templates == {"default": "older", "tool_use": "t"}


def test_tokenizer_json_alone_is_enough(tmp_path):
    folder = make_model(tmp_path / "m", "bpe")
    for path in folder.glob("*config.json"):
        path.unlink()
    model = load(folder)
    assert (model.eos_ids, model.longest_tokens, model.tokenizer.eos_id) == (frozenset(), None, None)
    assert model.tokenizer.encode("a")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (None, "there is no model folder {folder}/nowhere"),
        (
            lambda folder: (folder / "tokenizer.json").unlink(),
            "{folder} has no tokenizer.json; only models with a fast tokenizer can be served",
        ),
        (
            lambda folder: (folder / "config.json").write_text("{"),
            "{folder}/config.json is not a JSON object: Input data was truncated",
        ),
        (
            lambda folder: (folder / "config.json").write_text("[]"),
            "{folder}/config.json is not a JSON object: Expected `object`, got `array`",
        ),
        (
            lambda folder: (folder / "tokenizer.json").write_text("{}"),
            "{folder}/tokenizer.json is not a tokenizer: Model missing. at line 1 column 2",
        ),
        (
            lambda folder: (folder / "chat_template.jinja").write_bytes(b"\xff"),
            "{folder}/chat_template.jinja cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: "
            "invalid start byte",
        ),
        (
            lambda folder: (
                (folder / "generation_config.json").unlink() or (folder / "generation_config.json").mkdir()
            ),
            "{folder}/generation_config.json cannot be read: Is a directory",
        ),
    ],
)
def test_folders_that_cannot_be_used(break_it, message, tmp_path):
    folder = make_model(tmp_path / "m", "bpe")
    path = folder
    if break_it is None:
        path = folder / "nowhere"
    else:
        break_it(folder)
    with pytest.raises(BadModelFolder) as caught:
        load(Path(path))
    assert str(caught.value) == message.format(folder=folder)

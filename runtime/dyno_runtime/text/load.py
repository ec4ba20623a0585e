"""Loads what one model needs between text and tokens.

In: a model folder, or None for the built-in byte tokenizer. Out: a `TextModel`. Takes one or two seconds for a
tokenizer of 100,000 entries. `tokenizers` and `fastokens` are imported only here, and only for a folder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyno_runtime.text.corpus import parity_corpus
from dyno_runtime.text.folder import BadModelFolder, ModelFolder, read_folder
from dyno_runtime.text.pieces import Pieces, longest_chars, skipping, special_ids, table_for
from dyno_runtime.text.proof import decoding_difference, encoding_difference
from dyno_runtime.text.template import PLAIN, ChatTemplates
from dyno_runtime.text.tokenizer import ByteTokenizer, FolderTokenizer, Parts, Tokenizer

if TYPE_CHECKING:
    import tokenizers

log = logging.getLogger("dyno.text")

Now = Callable[[], datetime]


@dataclass(frozen=True)
class TextModel:
    """One model's text side. `eos_ids` end an answer; `longest_tokens` is None where the folder does not say."""

    tokenizer: Tokenizer
    templates: ChatTemplates
    eos_ids: frozenset[int] = frozenset()
    longest_tokens: int | None = None


def load(path: Path | None, *, now: Now = datetime.now, allow_fast: bool = True) -> TextModel:
    """What `path` holds; without one, bytes for tokens and the plain template.

    Raises:
        BadModelFolder: the folder cannot be used.
    """
    if path is None:
        return TextModel(ByteTokenizer(), ChatTemplates({"default": PLAIN}, {}, now))
    folder = read_folder(path)
    templates = ChatTemplates(folder.templates, folder.special_tokens, now)
    tokenizer = load_tokenizer(folder, allow_fast=allow_fast)
    eos = folder.eos_ids
    if not eos and tokenizer.eos_id is not None:
        eos = frozenset((tokenizer.eos_id,))
    return TextModel(tokenizer, templates, eos, folder.longest_tokens)


def load_tokenizer(folder: ModelFolder, *, allow_fast: bool = True) -> FolderTokenizer:
    """The folder's tokenizer; takes about a second for 100,000 entries.

    Raises:
        BadModelFolder: tokenizer.json is not a tokenizer.
    """
    import tokenizers

    try:
        slow = tokenizers.Tokenizer.from_file(str(folder.tokenizer))
    except Exception as error:  # that library raises nothing narrower
        raise BadModelFolder(f"{folder.tokenizer} is not a tokenizer: {error}") from error
    slow.no_truncation()
    slow.no_padding()
    fast = _fast(folder, slow) if allow_fast else None
    before, after = _around(slow, folder)
    plain, every = _tables(slow)
    eos = folder.special_tokens.get("eos_token")
    return FolderTokenizer(
        Parts(
            slow=slow,
            fast=fast,
            pieces=plain,
            pieces_with_special=every,
            before=before,
            after=after,
            eos_id=None if eos is None else slow.token_to_id(eos),
            longest_chars=longest_chars(slow),
        )
    )


def _fast(folder: ModelFolder, slow: tokenizers.Tokenizer) -> Any | None:
    try:
        import fastokens

        fast = fastokens.Tokenizer.from_file(str(folder.tokenizer))
        fast.no_truncation()
        fast.no_padding()
    except Exception as error:  # that library raises nothing narrower
        log.warning("%s: fastokens does not load it (%s); encoding with tokenizers", folder.path, error)
        return None
    added = [one.content for _, one in sorted(slow.get_added_tokens_decoder().items())]
    difference = encoding_difference(slow, fast, parity_corpus(added))
    if difference is not None:
        log.warning("%s: %s; encoding with tokenizers", folder.path, difference)
        return None
    return fast


def _around(slow: tokenizers.Tokenizer, folder: ModelFolder) -> tuple[list[int], list[int]]:
    """The special ids that `add_special` puts before and after a text."""
    bare = slow.encode("a", add_special_tokens=False).ids
    ids = slow.encode("a", add_special_tokens=True).ids
    start = next((place for place in range(len(ids)) if ids[place : place + len(bare)] == bare), 0)
    before, after = ids[:start], ids[start + len(bare) :]
    name = folder.special_tokens.get("bos_token")
    bos = None if name is None else slow.token_to_id(name)
    if bos is not None and folder.adds_bos is True and bos not in before:
        before = [bos, *before]
    elif bos is not None and folder.adds_bos is False:
        before = [one for one in before if one != bos]
    return before, after


def _tables(slow: tokenizers.Tokenizer) -> tuple[Pieces | None, Pieces | None]:
    """The table without and with special tokens; None where it does not tell what the tokenizer does."""
    every = table_for(slow)
    if every is None:
        return None, None
    plain = skipping(every, special_ids(slow))
    for pieces, keep_special in ((plain, False), (every, True)):
        difference = decoding_difference(slow, pieces, keep_special=keep_special)
        if difference is not None:
            log.warning("%s; decoding step by step", difference)
            return None, None
    return plain, every

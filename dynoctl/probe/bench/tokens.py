"""Tokenizers for tools that count tokens themselves: one token a byte, and how many tokens a text has.

In: a model folder, or where to put the one for bytes. Out: a folder with tokenizer.json; a function.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from dynoctl.probe.bench.store import writing


def alphabet() -> dict[str, int]:
    """The letter that byte-level tokenizers write for each byte: itself where it can be seen, else one above."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {
        **{chr(byte): byte for byte in seen},
        **{chr(256 + place): byte for place, byte in enumerate(hidden)},
    }


def byte_folder(root: Path) -> Path:
    """A model folder whose tokenizer makes a token of each byte, as the mock engine's does."""
    place = root / "bytes"
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    files: dict[str, Any] = {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 10**6,
            "clean_up_tokenization_spaces": False,
        },
        "config.json": {"model_type": "llama"},
        # Last, since it is what the folder is known by.
        "tokenizer.json": {
            "version": "1.0",
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": level,
            "post_processor": None,
            "decoder": level,
            "model": {"type": "BPE", "vocab": alphabet(), "merges": []},
        },
    }
    if not (place / "tokenizer.json").exists():
        with writing(place):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, content in files.items():
                beside = place / f".{name}.{os.getpid()}"
                beside.write_text(json.dumps(content))
                beside.replace(place / name)
    return place


@cache
def counter(folder: Path) -> Callable[[str], int]:
    """How many tokens a text has."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)

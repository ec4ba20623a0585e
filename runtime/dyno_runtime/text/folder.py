"""A Hugging Face model folder as values: what its JSON files say about tokens, lengths and chat templates.

In: the folder's path. Out: a `ModelFolder`; only tokenizer.json is needed, all else may be missing. Nothing is
imported from the folder and nothing is fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

Document = dict[str, Any]

# A tokenizer without a limit of its own says so with a number like 10^30.
_NO_LIMIT = 10**9
_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length")


class BadModelFolder(ValueError):
    """The folder cannot be used; the message names the file."""


@dataclass(frozen=True)
class ModelFolder:
    """What was read. `templates` are the chat templates by name; the usual one is `default`."""

    path: Path
    tokenizer: Path
    tokenizer_config: Document
    config: Document
    generation: Document
    special_tokens: dict[str, str]
    templates: dict[str, str]

    @property
    def eos_ids(self) -> frozenset[int]:
        """The ids that end an answer, of generation_config.json and config.json."""
        found: set[int] = set()
        for document in (self.generation, self.config, _text_part(self.config)):
            value = document.get("eos_token_id")
            ids = value if isinstance(value, list) else [value]
            found.update(one for one in ids if isinstance(one, int) and one >= 0)
        return frozenset(found)

    @property
    def longest_tokens(self) -> int | None:
        """Prompt and answer together hold at most this many tokens; None where no file says so."""
        documents = (self.config, _text_part(self.config))
        limits = [document.get(key) for document in documents for key in _LENGTHS]
        limits.append(self.tokenizer_config.get("model_max_length"))
        known = [int(one) for one in limits if isinstance(one, int | float) and 0 < one < _NO_LIMIT]
        return min(known, default=None)

    @property
    def adds_bos(self) -> bool | None:
        """Whether a prompt that is no chat begins with the bos token; None: as tokenizer.json says."""
        value = self.tokenizer_config.get("add_bos_token")
        return value if isinstance(value, bool) else None


def read_folder(path: Path) -> ModelFolder:
    """The folder's files.

    Raises:
        BadModelFolder: no folder, no tokenizer.json in it, or a file that cannot be read.
    """
    if not path.is_dir():
        raise BadModelFolder(f"there is no model folder {path}")
    tokenizer = path / "tokenizer.json"
    if not tokenizer.is_file():
        raise BadModelFolder(f"{path} has no tokenizer.json; only models with a fast tokenizer can be served")
    tokenizer_config = _read(path / "tokenizer_config.json")
    map_of_tokens = _read(path / "special_tokens_map.json")
    return ModelFolder(
        path=path,
        tokenizer=tokenizer,
        tokenizer_config=tokenizer_config,
        config=_read(path / "config.json"),
        generation=_read(path / "generation_config.json"),
        special_tokens=_special_tokens({**map_of_tokens, **tokenizer_config}),
        templates=_templates(path, tokenizer_config),
    )


def _read(path: Path) -> Document:
    """A JSON object; empty where there is no such file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadModelFolder(f"{path} cannot be read: {error.strerror}") from error
    try:
        return msgspec.json.decode(content, type=Document)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadModelFolder(f"{path} is not a JSON object: {error}") from error


def _text_part(config: Document) -> Document:
    """A model of several kinds of input keeps what concerns text in a part of its own."""
    part = config.get("text_config")
    return part if isinstance(part, dict) else {}


def _special_tokens(document: Document) -> dict[str, str]:
    """`bos_token`, `eos_token` and their like, which templates may name. A token is a string or an object."""
    tokens: dict[str, str] = {}
    for key, value in document.items():
        content = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(content, str):
            tokens[key] = content
    return tokens


def _templates(path: Path, tokenizer_config: Document) -> dict[str, str]:
    """Files of their own win over the template in tokenizer_config.json."""
    found: dict[str, str] = {}
    inside = tokenizer_config.get("chat_template")
    if isinstance(inside, str):
        found["default"] = inside
    elif isinstance(inside, list):
        for one in inside:
            if isinstance(one, dict) and isinstance(one.get("template"), str):
                found[str(one.get("name", "default"))] = one["template"]
    older = _read(path / "chat_template.json").get("chat_template")
    if isinstance(older, str):
        found["default"] = older
    for name, file in _template_files(path):
        try:
            found[name] = file.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise BadModelFolder(f"{file} cannot be read: {error}") from error
    return found


def _template_files(path: Path) -> list[tuple[str, Path]]:
    more = sorted((path / "additional_chat_templates").glob("*.jinja"))
    files = [(file.stem, file) for file in more]
    default = path / "chat_template.jinja"
    return [*files, ("default", default)] if default.is_file() else files

"""Values that must not be shown: the type that holds them, and how they are recognised.

In: values and lines of a topology. Out: `Secret`, which prints as `***`, `Url`, which prints without its
password, and `masked`, for lines of source that appear in messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import GetPydanticSchema, SerializationInfo
from pydantic_core import core_schema

from dynoctl.topology.scalars import EnvName, EnvText, Text

MASK = "***"

_SECRET_WORD = r"(?:token|secret|passw(?:or)?d|passphrase|credential|api_?key|access_?key|private_?key)"
_SECRET_KEY = re.compile(rf"(?i){_SECRET_WORD}|(?:^|_)(?:pass|pwd|auth)$")
_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
_SECRET_ENTRY = re.compile(rf"(?i)[\w-]*(?:{_SECRET_WORD}[\w-]*|_(?:pass|pwd|auth))['\"]?\s*[:=]\s*(?=\S)")
_FLOW_VALUE = re.compile(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"|[^,}\]]+")


class Secret:
    """A text that prints as `***` everywhere; only `reveal` gives it away."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for files of mode 0600 and for environments of processes."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.reveal() == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class Url(Secret):
    """An address of a service; prints with `***` in place of its user and password."""

    __slots__ = ()

    def __repr__(self) -> str:
        return _USERINFO.sub(MASK, self._text)


def reveal(value: str | Secret) -> str:
    """The text of a value that may or may not be a secret."""
    return value.reveal() if isinstance(value, Secret) else value


def looks_secret(key: str) -> bool:
    """Whether a variable of this name is taken for a secret."""
    return _SECRET_KEY.search(key) is not None


def masked(line: str) -> str:
    """One line of source as it may be shown: the same length, with `*` where a secret stands."""
    line = _USERINFO.sub(lambda found: "*" * len(found[0]), line)
    start = 0
    while entry := _SECRET_ENTRY.search(line, start):
        start = _value_end(line, entry.end())
        line = line[: entry.end()] + "*" * (start - entry.end()) + line[start:]
    return line


def _value_end(line: str, start: int) -> int:
    """Where the value that starts here ends: inside `{…}` at its own end, else with the line."""
    if "{" not in line[:start]:
        return len(line)
    value = _FLOW_VALUE.match(line, start)
    return value.end() if value else len(line)


def _hidden(env: dict[str, str]) -> dict[str, str | Secret]:
    def secret(key: str, value: str) -> bool:
        return looks_secret(key) or _USERINFO.search(value) is not None

    return {key: Secret(value) if secret(key, value) else value for key, value in env.items()}


def _shown(value: Any, info: SerializationInfo) -> Any:
    """For dumps: secrets as `***`, unless the context says `{"reveal": True}`."""
    give = reveal if info.context and info.context.get("reveal") else str
    if isinstance(value, dict):
        return {key: give(item) for key, item in value.items()}
    return None if value is None else give(value)


def _hiding(make: Callable[[Any], Any], written: Any) -> GetPydanticSchema:
    """A type that is written as `written` in the file, becomes `make(value)`, and is dumped by `_shown`."""
    dump = core_schema.plain_serializer_function_ser_schema(_shown, info_arg=True)
    return GetPydanticSchema(
        lambda _, handler: core_schema.no_info_after_validator_function(
            make, handler(written), serialization=dump
        )
    )


Env = Annotated[dict[str, str | Secret], _hiding(_hidden, dict[EnvName, EnvText])]
UrlText = Annotated[Url, _hiding(Url, Text)]

"""Values that must not be shown: the type that holds them, and how they are recognised.

In: values and lines of a topology. Out: `Secret`, which prints as `***`, `Url`, which prints without its
password, `Env`, which finds its own secrets, and `masked`, for lines of source that appear in messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

MASK = "***"

_SECRET_WORD = (
    r"(?:token(?!s|i[sz])|secret|passw(?:or)?d|passphrase|credential|(?:api|access|private)[_-]?key)"
)
_SECRET_KEY = re.compile(rf"(?i){_SECRET_WORD}|(?:^|_)(?:pass|pwd|auth)$")
_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
_SECRET_ENTRY = re.compile(
    rf"(?i)(?:{_SECRET_WORD}[\w-]*|(?<![a-z0-9])(?:pass|pwd|auth))['\"]?\s*[:=]\s*(?=\S)"
)
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


def redacted(values: Any, key: str = "") -> Any:
    """JSON values without those whose key names a secret, however deep."""
    if isinstance(values, dict):
        return {name: redacted(value, name) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [redacted(value, key) for value in values]
    return MASK if isinstance(values, str) and looks_secret(key) else values


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


class Env(Mapping[str, str | Secret]):
    """Environment variables by name. Values whose name or text gives them away as secrets are `Secret`."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str | Secret] | None = None) -> None:
        self._values = {name: _guarded(name, value) for name, value in (values or {}).items()}

    def __getitem__(self, name: str) -> str | Secret:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __or__(self, over: Mapping[str, str | Secret]) -> Env:
        return Env({**self._values, **over})

    def __repr__(self) -> str:
        return f"Env({self._values!r})"

    def reveal(self) -> dict[str, str]:
        """The variables in plain text, for the process that gets them."""
        return {name: reveal(value) for name, value in self._values.items()}


def _guarded(name: str, value: str | Secret) -> str | Secret:
    if isinstance(value, Secret):
        return value
    return Secret(value) if looks_secret(name) or _USERINFO.search(value) else value

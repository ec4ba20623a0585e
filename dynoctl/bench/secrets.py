"""Keys and passwords on a command line: found, and written as `***` wherever they are shown or kept.

In: words as they were typed. Out: the same words to be shown; and out of texts that others wrote (a tool's log, its
files, a server's error) every secret taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

HIDDEN = "***"
_LEAST = (
    8  # bytes of a secret that is looked for everywhere; a shorter one, or a number, only as a whole string
)
_SECRET = r"(?:key|token|secret|password|passwd|passphrase|credentials?|authorization|cookie)"
_OPTION = re.compile(rf"--(?:[\w-]*[-_])?(?:api)?{_SECRET}", re.IGNORECASE)
_NAMED = re.compile(rf"((?:[\w-]*[-_])?(?:api)?{_SECRET}\s*[:=]\s*)(.+)", re.IGNORECASE | re.DOTALL)
_HEADER = re.compile(r"([^:]*:\s*)(.*)", re.DOTALL)
_USER = re.compile(r"(?<=://)([^/@\s]+)(?=@)")
_PASSED_ON = "--tool-arg"


def shown(words: Sequence[str]) -> list[str]:
    """The words without what is secret in them."""
    return [word for word, _ in _looked_through(words)]


@dataclass(frozen=True, slots=True)
class Secrets:
    """Those of one command line."""

    values: tuple[str, ...]

    @classmethod
    def of(cls, words: Sequence[str]) -> Secrets:
        """The longest first, so that none is cut by a part of it."""
        found = {value for _, values in _looked_through(words) for value in values}
        return cls(tuple(sorted(found, key=lambda value: (-len(value), value))))

    def masked(self, text: str) -> str:
        """Without any of them, as they are or within a JSON string."""
        for value in self.values:
            for form in dict.fromkeys((value, json.dumps(value)[1:-1])):
                if len(value) >= _LEAST and not value.isdigit():
                    text = text.replace(form, HIDDEN)
                else:
                    text = text.replace(f'"{form}"', f'"{HIDDEN}"')
        return text

    def masked_line(self, line: str) -> str:
        """The same for a line that may end in the middle of one."""
        line = self.masked(line)
        for value in self.values:
            for length in range(len(value) - 1, _LEAST // 2, -1):
                if line.endswith(value[:length]):
                    return line[:-length] + HIDDEN
        return line


def _looked_through(words: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Each word as it may be shown, with the secrets in it."""
    kind = ""  # of the word that comes next: a header, or a secret as a whole
    for word in words:
        if word == _PASSED_ON:
            yield word, []
            continue
        lead, mark, rest = word.partition("=")
        lead = f"{lead}{mark}" if lead == _PASSED_ON and mark else ""
        word = rest if lead else word
        safe, values, kind = _one(word, kind)
        yield lead + safe, values


def _one(word: str, kind: str) -> tuple[str, list[str], str]:
    """A word as it may be shown, its secrets, and what the next one is."""
    if kind == "headers" and not word.startswith("-") and ":" in word:
        return *_value(word, "header"), kind
    if kind and kind != "headers":
        shown, secrets = _value(word, kind)
        return shown, secrets, "headers" if kind == "header" else ""  # aiperf takes several behind one option
    name, mark, value = word.partition("=")
    if name in ("-H", "--header") or _OPTION.fullmatch(name):
        kind = "header" if name in ("-H", "--header") else "secret"
        if not mark:
            return word, [], kind
        safe, values = _value(value, kind)
        return f"{name}={safe}", values, ""
    if word.startswith("-H"):
        safe, values = _value(word[2:], "header")
        return f"-H{safe}", values, ""
    named = _NAMED.fullmatch(word)
    if named is not None:
        return named[1] + HIDDEN, [named[2]], ""
    users = _USER.findall(word)
    return _USER.sub(HIDDEN, word), [*users, *(user.partition(":")[2] for user in users if ":" in user)], ""


def _value(word: str, kind: str) -> tuple[str, list[str]]:
    """The word behind an option. Of a header its name is shown; the key behind `Bearer` is one by itself, too. aiperf
    takes headers as JSON as well."""
    if kind == "header" and word.lstrip().startswith("{"):
        values = [value for value in _strings(word) if value]
        return HIDDEN, [one for value in values for one in dict.fromkeys((value, value.rpartition(" ")[2]))]
    found = _HEADER.fullmatch(word) if kind == "header" else None
    name, secret = (found[1], found[2]) if found is not None else ("", word)
    return name + HIDDEN, [one for one in dict.fromkeys((secret, secret.rpartition(" ")[2])) if one]


def _strings(text: str) -> list[str]:
    """The values of a JSON object; the text itself where it is none."""
    try:
        return [str(value) for value in json.loads(text).values()]
    except ValueError:
        return [text]

"""Text for a node's `sh`, where quoting is a type: a word is quoted when it is rendered, never by hand.

In: words and paths. Out: script text. Nothing here runs anything.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodePath:
    """A path on a node. A leading `~/` means that user's home folder and is expanded there, not here."""

    text: str

    def __truediv__(self, part: str) -> NodePath:
        return NodePath(f"{self.text.rstrip('/')}/{part}")

    def __str__(self) -> str:
        return self.text

    def quoted(self) -> str:
        """The path as one word of `sh`."""
        if self.text == "~":
            return '"$HOME"'
        if self.text.startswith("~/"):
            return '"$HOME"/' + shlex.quote(self.text[2:])
        return shlex.quote(self.text)


def words(*parts: str | NodePath) -> str:
    """One command line: each part one word, quoted."""
    return " ".join(part.quoted() if isinstance(part, NodePath) else shlex.quote(part) for part in parts)


def assign(name: str, value: str | NodePath) -> str:
    """`name=value` for a script's head."""
    return f"{name}={words(value)}"

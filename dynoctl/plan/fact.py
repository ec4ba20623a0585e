"""One question to a node: what `sh` runs there, and what is made of what it printed.

In: nothing. Out: `Fact`, of which `plan.facts` makes one script a node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Fact:
    """`parse` gets what `command` printed and returns keyword values of `NodeSeen`."""

    name: str
    command: str
    parse: Callable[[str], dict[str, Any]]


def lines(text: str) -> list[str]:
    """The lines that say something."""
    return [line for line in text.split("\n") if line]

"""Rules that need the whole topology."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dynoctl.topology.document import Path
from dynoctl.topology.model import Topology


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a rule found. `at_key` points at the key instead of its value."""

    path: Path
    message: str
    hint: str | None = None
    at_key: bool = False


def findings(topology: Topology) -> Iterator[Finding]:
    yield from ()

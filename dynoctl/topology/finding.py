"""What a rule finds: a path of the topology and a sentence. Where that is in the file is found out later.

In: nothing. Out: `Finding`.
"""

from __future__ import annotations

from dataclasses import dataclass

from dynoctl.topology.document import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a rule found. `at_key` points at the key instead of its value.

    `rests_on` are other values that the sentence is about: where one of them could not be read, nothing is said.
    """

    path: Path
    message: str
    hint: str | None = None
    at_key: bool = False
    rests_on: tuple[Path, ...] = ()

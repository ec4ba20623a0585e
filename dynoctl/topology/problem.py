"""One thing that is wrong with a topology, and how it is shown: place, key, sentence, source line, caret.

In: problems, the source they are about, the file's name. Out: lines of text, with secrets masked.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from dynoctl.errors import TopologyError
from dynoctl.topology.document import Mark
from dynoctl.topology.secret import masked

MAX_WIDTH = 110  # of a source line as it is shown
MAX_LINE = 2000  # of a source line that is shown at all


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong. `path` is the key, `roles.decode.tp`, and empty where the whole file is meant."""

    mark: Mark
    path: str
    message: str
    hint: str | None = None

    @property
    def order(self) -> tuple[bool, int, int]:
        """File order; what was given on the command line comes last."""
        return self.mark.origin is not None, self.mark.line, self.mark.column

    def document(self, name: str) -> dict[str, object]:
        """For `--json`. `line` and `column` are null where the command line is meant; `file` then names it."""
        here = self.mark.origin is None
        return {
            "file": name if here else masked(self.mark.origin or ""),
            "line": self.mark.line if here else None,
            "column": self.mark.column if here else None,
            "path": self.path,
            "message": self.message,
            "hint": self.hint,
        }


class InvalidTopology(TopologyError):
    """A `TopologyError` whose problems are also values. `detail` holds them rendered, in file order."""

    def __init__(self, name: str, problems: Sequence[Problem], source: str) -> None:
        self.name = name
        self.problems = tuple(sorted(dict.fromkeys(problems), key=lambda problem: problem.order))
        count = "one problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        lines = source.split("\n")
        detail = [line for problem in self.problems for line in rendered(problem, name, lines)]
        super().__init__(f"{name} is not a valid topology: {count}", detail=detail)


def rendered(problem: Problem, name: str, lines: Sequence[str]) -> list[str]:
    """A problem as text: one line, then the source line with a caret below it, then the hint."""
    mark = problem.mark
    place = masked(mark.origin) if mark.origin else f"{name}:{mark.line}:{mark.column}"
    head = ": ".join(part for part in (place, problem.path, problem.message) if part)
    hint = [f"    {problem.hint}"] if problem.hint else []
    line = lines[mark.line - 1] if mark.origin is None and mark.line <= len(lines) else ""
    return [head, *(_excerpt(mark, line) if line.strip() and len(line) <= MAX_LINE else []), *hint]


def _excerpt(mark: Mark, line: str) -> list[str]:
    gutter = f"{mark.line:>5} | "
    line = "".join(char if char.isprintable() else " " for char in masked(line.rstrip()))
    start = min(mark.column - 1, len(line))
    cut = max(0, start - MAX_WIDTH // 2) if len(line) > MAX_WIDTH else 0
    shown = line[cut : cut + MAX_WIDTH]
    carets = "^" * max(1, min(mark.width, len(shown) - (start - cut)))
    return [gutter + shown, " " * (len(gutter) - 2) + "| " + " " * _columns(line[cut:start]) + carets]


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )

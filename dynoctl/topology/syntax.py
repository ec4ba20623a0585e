"""What a YAML parser complains about → one sentence in our words, at the place that a person has to change.

In: the parser's exception. Out: a `Problem`.
"""

from __future__ import annotations

import re
from typing import Any

from dynoctl.topology.document import Mark
from dynoctl.topology.problem import Problem

# (what the parser says, our sentence, hint, whether to point at where the construct began)
_SENTENCES: tuple[tuple[str, str, str | None, bool], ...] = (
    (
        r"mapping values are not allowed here",
        "this ':' cannot begin a value here",
        "text that holds ': ' needs quotes; otherwise compare the indentation with the lines above",
        False,
    ),
    (r"found character '\\t'", "a tab stands here", "YAML is indented with spaces", False),
    (
        r"found character '(.)' that cannot start",
        "no value begins with {0!r}",
        "put text that begins so in quotes",
        False,
    ),
    (r"expected ',' or '\]', but got '<stream end>'", "this list is never closed with ']'", None, True),
    (r"expected ',' or '\]'", "a ',' or the closing ']' of the list is missing before this", None, False),
    (r"expected ',' or '}', but got '<stream end>'", "this map is never closed with '}}'", None, True),
    (r"expected ',' or '}'", "a ',' or the closing '}}' of the map is missing before this", None, False),
    (r"expected the node content", "a value is missing here", None, False),
    (r"found unexpected end of stream", "this quote is never closed", None, True),
    (
        r"found unknown escape character '(.)'",
        "'\\{0}' means nothing inside double quotes",
        "use single quotes",
        False,
    ),
    (
        r"could not find expected ':'",
        "this is neither a key (a ':' is missing) nor part of the value above",
        None,
        True,
    ),
    (
        r"expected <block end>, but found",
        "this does not fit what stands above it",
        "keys of one map, and dashes of one list, stand exactly below each other",
        False,
    ),
)


def syntax_problem(error: Exception, text: str, origin: Mark | None) -> Problem:
    """The problem behind an exception of the parser."""
    said = str(getattr(error, "problem", None) or "")
    for pattern, sentence, hint, from_start in _SENTENCES:
        if found := re.search(pattern, said):
            mark = _mark(error, text, origin, from_start)
            return Problem(mark, "", f"not YAML: {sentence.format(*found.groups())}", hint)
    mark = _mark(error, text, origin, False)
    if (character := getattr(error, "character", None)) is not None:
        return Problem(mark, "", f"not text: a character U+{_code(character):04X} stands here")
    return Problem(mark, "", f"not YAML: {said or 'it cannot be read on from here'}")


def _code(character: Any) -> int:
    return ord(character) if isinstance(character, str) else int(character)


def _mark(error: Exception, text: str, origin: Mark | None, from_start: bool) -> Mark:
    if origin is not None:
        return origin
    start, place = getattr(error, "context_mark", None), getattr(error, "problem_mark", None)
    mark = (start if from_start else place) or place or start
    if mark is not None:
        return Mark(mark.line + 1, mark.column + 1)
    before = text[: getattr(error, "position", 0) or 0]
    return Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)

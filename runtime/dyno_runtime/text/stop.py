"""Stop strings, found wherever the pieces of an answer are cut.

In: the text of an answer, piece by piece. Out: what may be shown of it. Only an end that could still become a stop
string is held back. The one that is complete first ends the answer, and of several that are complete at the same
character the one that began first; so what comes out never depends on how the text was cut.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """The stop strings of one answer. After a hit it is not fed any more."""

    __slots__ = ("_firsts", "_held", "_include", "_longest", "_strings", "hit", "used_chars")

    def __init__(self, strings: Sequence[str], *, include: bool = False) -> None:
        """`strings` are not empty. `include`: the stop string itself is shown, too."""
        self._strings = tuple(strings)
        self._firsts = frozenset(one[0] for one in strings)
        self._longest = max(map(len, strings))
        self._include = include
        self._held = ""
        self.hit: str | None = None
        self.used_chars = 0  # of the last piece, up to the end of the hit

    def feed(self, text: str, *, armed: bool = True) -> str:
        """What may be shown now. Unless `armed`, nothing that is complete within `text` is a hit."""
        held = self._held
        if not held and self._firsts.isdisjoint(text):
            return text
        buffer = held + text
        if armed:
            found = self._find(buffer, len(held))
            if found is not None:
                start, self.hit = found
                end = start + len(self.hit)
                self._held = ""
                self.used_chars = end - len(held)
                return buffer[: end if self._include else start]
        cut = self._could_begin(buffer)
        self._held = buffer[cut:]
        return buffer[:cut]

    def flush(self) -> str:
        """What was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return held

    def _find(self, buffer: str, old: int) -> tuple[int, str] | None:
        """Start and text of the hit. It ends beyond the first `old` characters."""
        best: tuple[int, int, str] | None = None
        for one in self._strings:
            start = buffer.find(one, max(0, old - len(one) + 1))
            if start >= 0 and (best is None or (start + len(one), start) < best[:2]):
                best = (start + len(one), start, one)
        return None if best is None else best[1:]

    def _could_begin(self, buffer: str) -> int:
        """Where the longest end begins that is the beginning of a stop string."""
        firsts = self._firsts
        for start in range(max(0, len(buffer) - self._longest + 1), len(buffer)):
            if buffer[start] in firsts:
                end = buffer[start:]
                if any(one.startswith(end) and len(one) > len(end) for one in self._strings):
                    return start
        return len(buffer)

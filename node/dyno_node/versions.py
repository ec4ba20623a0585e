"""Whether a version is one that a requirement allows: the part of it that the runtime's own lists use.

In: `2.13.0+cpu`, `torch>=2.5,<3`. Out: yes or no. Only release numbers are compared; what comes behind them is not.
"""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CLAUSE = re.compile(r"(==|>=|<=|!=|<|>)\s*([0-9][0-9.]*)")


def name_of(requirement: str) -> str:
    """The distribution that a requirement names."""
    found = _NAME.match(requirement)
    return found[0] if found else requirement


def allows(requirement: str, version: str) -> bool:
    """Whether every bound of the requirement holds."""
    bounds = requirement[len(name_of(requirement)) :].partition(";")[0]
    ours = _release(version)
    return all(_holds(ours, how, _release(bound)) for how, bound in _CLAUSE.findall(bounds))


def _release(version: str) -> tuple[int, ...]:
    found = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else [0]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()  # 2.0 is 2
    return tuple(numbers)


def _holds(ours: tuple[int, ...], how: str, bound: tuple[int, ...]) -> bool:
    return {
        "==": ours == bound,
        "!=": ours != bound,
        ">=": ours >= bound,
        "<=": ours <= bound,
        ">": ours > bound,
        "<": ours < bound,
    }[how]

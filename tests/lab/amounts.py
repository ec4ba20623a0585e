"""Amounts as a person types them: 0.3, 50ms, 64kbit, a port.

In: a word. Out: a number in the unit that the name says. Raises BadRequest with what was expected.
"""

from __future__ import annotations

import re

from tests.lab.errors import BadRequest

SECONDS = {"ms": 0.001, "s": 1.0}
BITS_PER_S = {"bit": 1, "kbit": 1000, "mbit": 1000**2, "gbit": 1000**3}


def number(text: str) -> int:
    """A whole number of hosts."""
    if not text.isascii() or not text.isdigit():
        raise BadRequest(f"how many hosts is a whole number, not {text!r}")
    return int(text)


def port(text: str) -> int:
    """A TCP port."""
    if not text.isascii() or not text.isdigit():
        raise BadRequest(f"refuse needs a port like 8000, not {text!r}")
    return int(text)


def probability(text: str) -> float:
    """A share such as 0.3."""
    if not re.fullmatch(r"\d*\.?\d+", text, re.ASCII):
        raise BadRequest(f"loss needs a probability like 0.3, not {text!r}")
    return float(text)


def duration_s(text: str) -> float:
    """A duration such as 50ms or 2s."""
    return _scaled(text, SECONDS, "delay needs a duration like 50ms or 2s")


def rate_bits_per_s(text: str) -> int:
    """A rate such as 64kbit or 10mbit, which is per second."""
    return round(_scaled(text, BITS_PER_S, "rate needs an amount like 64kbit or 10mbit"))


def _scaled(text: str, units: dict[str, float] | dict[str, int], wanted: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]+)", text, re.ASCII)
    if not match or match[2] not in units:
        raise BadRequest(f"{wanted}, not {text!r}")
    return float(match[1]) * units[match[2]]

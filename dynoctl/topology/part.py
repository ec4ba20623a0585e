"""The base of every section of a topology: frozen, and strict about its keys.

In: nothing. Out: `Part`, and `Listed`, the types of keys that take one value or a list of them.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """One section of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, protected_namespaces=())


def listed(value: object) -> object:
    """A single value stands for a list of one. What is missing stays missing."""
    return value if value is None or isinstance(value, list | tuple) else [value]

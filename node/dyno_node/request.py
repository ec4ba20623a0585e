"""Reading one request: the JSON document on standard input, key by key.

In: an object. Out: values of the right kind, or `BadRequest` with one sentence (the program then ends with status 2).
"""

from __future__ import annotations

from typing import Any

Request = dict[str, Any]


class BadRequest(Exception):
    """The document on standard input is not what the verb takes."""


class Refused(Exception):
    """An action that was not carried out; the message is a sentence for people."""


def text(request: Request, name: str, default: str | None = None) -> str:
    value = request.get(name, default)
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a text")
    return value


def number(request: Request, name: str, default: float | None = None) -> float:
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise BadRequest(f"{name} must be a number, 0 or more")
    return float(value)


def texts(request: Request, name: str) -> list[str]:
    value = request.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BadRequest(f"{name} must be a list of texts")
    return value


def numbers(request: Request, name: str) -> list[int]:
    value = request.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, int) for each in value):
        raise BadRequest(f"{name} must be a list of whole numbers")
    return value

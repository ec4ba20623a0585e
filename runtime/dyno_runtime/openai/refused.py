"""What msgspec says of a bad body, as OpenAI's servers would say it.

In: the exception. Out: an `ApiError` (400) with a sentence, the field's name and a code.
"""

from __future__ import annotations

import re

import msgspec

from dyno_runtime.openai.errors import ApiError, invalid

_AT = re.compile(r"(?s)(.*?) - at (?:`key` in )?`\$\.?(.*)`")
_NAMED = re.compile(r"Object (contains unknown|missing required) field `(.*)`")
_KINDS = (
    ("`object`", "an object"),
    ("`array`", "a list"),
    ("`str`", "a string"),
    ("`bool`", "true or false"),
)
_MORE_KINDS = (("`int`", "an integer"), ("`float`", "a number"))


def refused(error: Exception) -> ApiError:
    """The refusal for `error`, which came out of decoding a body."""
    if isinstance(error, RecursionError):
        return invalid("The body is nested too deep.", code="invalid_json")
    if isinstance(error, UnicodeError):
        return invalid("The body is not valid UTF-8.", code="invalid_json")
    if not isinstance(error, msgspec.ValidationError):
        return invalid(f"The body is not valid JSON: {error}.", code="invalid_json")
    return _of_validation(str(error))


def _of_validation(text: str) -> ApiError:
    at = _AT.fullmatch(text)
    problem, where = (at[1], at[2]) if at else (text, "")
    named = _NAMED.fullmatch(problem)
    if named:
        param = f"{where}.{named[2]}" if where else named[2]
        if named[1] == "missing required":
            return invalid(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
        return invalid(f"Unknown parameter: '{param}'.", param, "unknown_parameter")
    if not where:
        return invalid(f"The body has to be an object: {_plain(problem)}.", code="invalid_json")
    return invalid(f"Invalid value for '{where}': {_plain(problem)}.", where)


def _plain(problem: str) -> str:
    """The same without the names of Python's types."""
    problem = problem.replace("Invalid enum value", "not a known value:")
    problem = problem[:1].lower() + problem[1:]
    for name, plain in (*_KINDS, *_MORE_KINDS):
        problem = problem.replace(name, plain)
    for old, new in (("int", "integer"), ("float", "number"), ("str", "string"), ("bool", "boolean")):
        problem = re.sub(rf"\b{old}\b", new, problem)
    return problem.replace("`", "").replace(" | ", " or ")

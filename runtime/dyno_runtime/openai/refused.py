"""What msgspec says of a bad body, as OpenAI's servers would say it.

In: the exception. Out: an `ApiError` (400) with a sentence, the field's name and a code.
"""

from __future__ import annotations

import re

import msgspec

from dyno_runtime.openai.errors import ApiError, invalid

_AT = re.compile(r"(?s)(.*?) - at (?:`key` in )?`\$\.?(.*)`")
_NAMED = re.compile(r"Object (contains unknown|missing required) field `(.*)`")
_QUOTED = re.compile("`([^`]*)`")
_KINDS = {
    "object": ["an object"],
    "array": ["a list"],
    "str": ["a string"],
    "bool": ["true", "false"],
    "int": ["an integer"],
    "float": ["a number"],
}


def refused(error: Exception, body: bytes) -> ApiError:
    """The refusal for `error`, which came out of decoding `body`."""
    if not body.strip():
        return invalid("The body is empty.", code="invalid_json")
    if isinstance(error, RecursionError):
        return invalid("The body is nested too deep.", code="invalid_json")
    if isinstance(error, UnicodeError):
        return invalid("The body is not valid UTF-8.", code="invalid_json")
    if not isinstance(error, msgspec.ValidationError):
        return invalid(f"The body is not valid JSON: {_of_syntax(str(error), body)}.", code="invalid_json")
    return _of_validation(str(error))


def _of_syntax(text: str, body: bytes) -> str:
    if "truncated" not in text:
        return text.removeprefix("JSON is malformed: ")
    # It looks for the other half behind the end of the string.
    lone = b"\\ud" in body.lower() and body.rstrip().endswith(b"}")
    return "half of a surrogate pair stands alone" if lone else "it ends too early"


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
    if problem.startswith("Invalid enum value "):
        value = problem.removeprefix("Invalid enum value ")
        return f"not a known value: {value.lower() if value in ('True', 'False') else value}"
    return problem[:1].lower() + _QUOTED.sub(_kinds, problem[1:])


def _kinds(quoted: re.Match[str]) -> str:
    *most, last = [word for name in quoted[1].split(" | ") for word in _KINDS.get(name, [name])]
    return f"{', '.join(most)} or {last}" if most else last

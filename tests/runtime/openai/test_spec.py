"""/openapi.json is a valid document, and says what the code takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema.validators import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import validate

from dyno_runtime.openai.answers import Head, chat_answer, chat_choice, usage
from dyno_runtime.openai.errors import ApiError, invalid
from dyno_runtime.openai.models import Model, model_list
from dyno_runtime.openai.request import parse_chat, parse_completion
from dyno_runtime.openai.spec import openapi

DOCUMENT = json.loads(openapi("1.2.3"))
USER = {"role": "user", "content": "hi"}


def validator(name: str) -> Any:
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    )


def test_it_is_valid():
    validate(DOCUMENT)
    assert DOCUMENT["info"]["version"] == "1.2.3"


def test_every_operation_has_a_name_of_its_own():
    names = [one["operationId"] for path in DOCUMENT["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names) == 11


def test_answers_are_as_it_says():
    head = Head("x", 1, "m")
    validator("ChatAnswer").validate(
        json.loads(chat_answer(head, [chat_choice(0, "a", "stop")], usage(1, 1)))
    )
    validator("ErrorAnswer").validate(json.loads(invalid("no").body()))
    validator("ModelList").validate(json.loads(model_list([Model("a", 1)])))
    with pytest.raises(jsonschema.ValidationError):
        validator("ModelList").validate({"data": 1, "object": "list"})


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 300),
    st.floats(-3, 3).filter(
        lambda value: not value.is_integer()
    ),  # 1.0 is an integer to JSON Schema, not to us
    st.sampled_from(
        ["", "a", "auto", "text", {"1": 5}, {"x": 5}, {"type": "text"}, [], ["a"], [1, 2], [[1]], [[]]]
    ),
)
CHAT_FIELDS = sorted(DOCUMENT["components"]["schemas"]["ChatRequest"]["properties"])
COMPLETION_FIELDS = sorted(DOCUMENT["components"]["schemas"]["CompletionRequest"]["properties"])


@given(st.dictionaries(st.sampled_from([*CHAT_FIELDS, "unknown"]), VALUES, max_size=3))
def test_what_it_forbids_in_a_chat_is_refused(fields):
    body = {"model": "m", "messages": [USER], **fields}
    _agree("ChatRequest", parse_chat, body)


@given(st.dictionaries(st.sampled_from([*COMPLETION_FIELDS, "unknown"]), VALUES, max_size=3))
def test_what_it_forbids_in_a_completion_is_refused(fields):
    body = {"model": "m", "prompt": "p", **fields}
    _agree("CompletionRequest", parse_completion, body)


def _agree(name: str, parse: Callable[[bytes], object], body: dict[str, Any]) -> None:
    allowed = validator(name).is_valid(body)
    try:
        parse(json.dumps(body).encode())
    except ApiError:
        # Some rules concern two fields at once; a schema that says them would not be read by anybody.
        if len(body) == 3:
            assert not allowed or set(body) & ALONE
    else:
        assert allowed


# These need another field beside them.
ALONE = {
    "stream_options",
    "top_logprobs",
    "tool_choice",
    "continue_final_message",
    "response_format",
    "prompt",
}

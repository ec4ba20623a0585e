"""Tool calls that a client insists on: what the engine is told to write, and what becomes of it, in any pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dyno_runtime.openai.answers import merged_tool_calls
from dyno_runtime.openai.errors import ApiError
from dyno_runtime.openai.request import parse_chat
from dyno_runtime.openai.sampling import sampling
from dyno_runtime.openai.tools import Calls, Forced, forced_calls
from tests.runtime.openai.bodies import chat

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ABLE = frozenset({"response_format"})


def tool(name: str, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def schema(**fields: Any) -> dict[str, Any]:
    forced = forced_calls(parse_chat(chat(**fields)))
    assert forced is not None
    assert forced.form["type"] == "json_schema"
    found = forced.form["json_schema"]["schema"]
    assert isinstance(found, dict)
    return found


def test_a_named_function_is_its_parameters_alone() -> None:
    tools = [tool("weather", CITY), tool("time")]
    assert schema(tools=tools, tool_choice=named("weather")) == CITY
    nothing = {"type": "object", "properties": {}, "additionalProperties": False}
    assert schema(tools=tools, tool_choice=named("time")) == nothing


def test_required_is_a_list_of_calls_whose_references_stay_within_their_function() -> None:
    def heat(root: str) -> dict[str, Any]:
        properties = {
            "unit": {"$ref": f"{root}/$defs/Unit"},
            "then": {"$ref": root},
            "$ref": {"type": "string"},
        }
        again = {"oneOf": [{"$ref": f"{root}/properties/unit"}, {"$ref": "https://elsewhere/#/x"}]}
        return {"properties": {**properties, "again": again}, "$defs": {"Unit": {"enum": ["C", "F"]}}}

    tools = [tool("weather", CITY), tool("heat", heat("#"))]

    def call(name: str, arguments: Any) -> dict[str, Any]:
        properties = {"name": {"enum": [name]}, "arguments": arguments}
        required = ["name", "arguments"]
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }

    wanted = {
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [call("weather", CITY), call("heat", {"$ref": "#/$defs/f1"})]},
        "$defs": {"f1": heat("#/$defs/f1")},
    }
    assert schema(tools=tools, tool_choice="required") == wanted
    assert schema(tools=tools, tool_choice="required", parallel_tool_calls=False) == {**wanted, "maxItems": 1}


def test_one_name_may_stand_for_different_things_in_two_functions() -> None:
    tools = [tool(name, {"$ref": "#/$defs/A", "$defs": {"A": {"enum": [name]}}}) for name in "fg"]
    homes = schema(tools=tools, tool_choice="required")["$defs"]
    assert [homes[home]["$defs"]["A"] for home in ("f0", "f1")] == [{"enum": ["f"]}, {"enum": ["g"]}]


@pytest.mark.parametrize("parameters", [{"$defs": [1]}, {"definitions": "x"}, {"$ref": 5}])
def test_a_schema_that_is_none_is_for_the_engine_to_refuse(parameters: dict[str, Any]) -> None:
    (call,) = schema(tools=[tool("f", parameters)], tool_choice="required")["items"]["anyOf"]
    assert call["properties"]["arguments"] == parameters


def test_of_two_functions_of_one_name_the_first_is_called() -> None:
    assert schema(tools=[tool("f", CITY), tool("f")], tool_choice=named("f")) == CITY


@pytest.mark.parametrize("choice", ["none", "auto", None])
def test_else_nothing_is_forced(choice: str | None) -> None:
    assert forced_calls(parse_chat(chat(tools=[tool("f")], tool_choice=choice))) is None


@pytest.mark.parametrize(
    ("fields", "features", "message", "param"),
    [
        (
            {"tools": [tool("f")]},
            ABLE,
            "'tool_choice' 'auto' is not supported by this model's engine; ask for 'required', for a function by its "
            "name, or for 'none'.",
            "tools",
        ),
        (
            {"tools": [tool("f")], "tool_choice": "required"},
            frozenset(),
            "'tools' is not supported by this model's engine.",
            "tools",
        ),
        (
            {
                "tools": [tool("f")],
                "tool_choice": "required",
                "response_format": {"type": "json_object"},
            },
            ABLE,
            "'response_format' cannot be combined with a 'tool_choice' that insists on a call.",
            "response_format",
        ),
        (
            {"tools": [tool("f")], "tool_choice": "required", "ignore_eos": True},
            ABLE | {"ignore_eos"},
            "'ignore_eos' cannot be combined with a 'tool_choice' that insists on a call.",
            "ignore_eos",
        ),
        (
            {"tools": [tool("f")], "tool_choice": named("f"), "min_tokens": 3},
            ABLE | {"min_tokens"},
            "'min_tokens' cannot be combined with a 'tool_choice' that insists on a call.",
            "min_tokens",
        ),
    ],
    ids=["auto", "unable", "two forms", "no end", "a later end"],
)
def test_what_cannot_be_done_is_refused(
    fields: dict[str, Any], features: frozenset[str], message: str, param: str
) -> None:
    with pytest.raises(ApiError) as refused:
        sampling(parse_chat(chat(**fields)), features)
    assert (refused.value.status, refused.value.message, refused.value.param) == (400, message, param)


def test_the_engine_is_told_of_a_form_and_not_of_tools() -> None:
    wishes = sampling(parse_chat(chat(tools=[tool("f", CITY)], tool_choice=named("f"))), ABLE)
    assert wishes.forced is not None
    assert wishes.engine == {"response_format": wishes.forced.form}


def told(forced: Forced, text: str, size: int) -> tuple[list[dict[str, Any]], Calls]:
    calls = Calls(forced, "call_1")
    deltas = []
    for start in range(0, len(text), size):
        deltas += calls.feed(text[start : start + size])
    return deltas, calls


ARGUMENTS = ('{"a": "]}\\\\\\"{[", "b": [1, {"c": 2}]}', "{}")
LIST = f'[ {{"name": "f", "arguments": {ARGUMENTS[0]}}},\n{{"arguments": {ARGUMENTS[1]}, "name":"g"}} ]'


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_list_is_told_call_by_call_in_whatever_pieces_it_comes(size: int) -> None:
    json.loads(LIST)
    deltas, calls = told(Forced(None, {}), LIST, size)
    assert deltas == [
        {
            "index": number,
            "id": f"call_1-{number}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for number, (name, arguments) in enumerate(zip("fg", ARGUMENTS, strict=True))
    ]
    assert (calls.finish("stop"), calls.finish("length")) == ("tool_calls", "length")


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_arguments_of_a_named_function_are_told_as_they_come(size: int) -> None:
    deltas, calls = told(Forced("f", {}), ARGUMENTS[0], size)
    assert [("id" in delta) for delta in deltas] == [True] + [False] * (len(deltas) - 1)
    (call,) = merged_tool_calls(deltas)
    assert (call.id, call.function.name, call.function.arguments) == ("call_1-0", "f", ARGUMENTS[0])
    assert calls.finish("stop") == "stop"


def test_a_call_that_was_cut_off_is_not_told() -> None:
    deltas, calls = told(Forced(None, {}), LIST[:-20], 5)
    assert [delta["function"]["name"] for delta in deltas] == ["f"]
    assert calls.finish("length") == "length"
    assert told(Forced(None, {}), '[{"name": "f", "argu', 5)[0] == []


@pytest.mark.parametrize("behind", ["{}", '[{"name": "g", "arguments": {}}]', "] [{]}"])
def test_what_an_engine_says_behind_the_list_is_no_call(behind: str) -> None:
    """With `ignore_eos` it has to go on, and no schema holds it any more."""
    deltas, _ = told(Forced(None, {}), f"{LIST} {behind}", 5)
    assert [delta["function"]["name"] for delta in deltas] == ["f", "g"]


def test_half_of_a_surrogate_pair_is_passed_on_as_it_is_written() -> None:
    (delta,), _ = told(Forced(None, {}), '[{"name": "f", "arguments": {"a": "\\ud83d"}}]', 5)
    assert delta["function"] == {"name": "f", "arguments": '{"a": "\\ud83d"}'}

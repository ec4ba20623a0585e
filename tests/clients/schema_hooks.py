"""What schemathesis is told of our API beyond its schema: which model there is, and what its engine can do.

In: generated requests. Out: half of them as they are, half so that they get as far as the engine and are answered.
"""

from __future__ import annotations

from typing import Any

import schemathesis

NOT_OF_THE_MOCK = frozenset(
    {
        "best_of",
        "frequency_penalty",
        "logit_bias",
        "min_p",
        "presence_penalty",
        "priority",
        "repetition_penalty",
        "response_format",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
WITH_OTHERS = frozenset({"continue_final_message", "min_tokens", "stream_options", "top_logprobs"})
LONGEST_NAME = 256
TOKENS = 50


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """A name is any text for the schema, and a number any number."""
    if not isinstance(body, dict):
        return body
    name = body.get("model")
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or len(name) % 2 == 0:
        return body
    near = {key: _whole(value) for key, value in body.items() if key not in NOT_OF_THE_MOCK | WITH_OTHERS}
    for key in ("max_tokens", "max_completion_tokens"):
        if isinstance(near.get(key), int) and near[key] > TOKENS:
            near[key] = TOKENS
    if "messages" in near:
        near["messages"] = [{"role": "user", "content": "hi"}]
    if near.get("prompt") in ("", []):
        near["prompt"] = "once"
    return {**near, "model": "mock"}


def _whole(value: Any) -> Any:
    """For a schema 1.0 is an integer, too."""
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """Half of them ask for a model that exists."""
    if isinstance(path_parameters, dict) and len(str(path_parameters.get("model", ""))) % 2:
        return {**path_parameters, "model": "mock"}
    return path_parameters

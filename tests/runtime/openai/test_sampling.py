"""What a request asks of the engine, and the refusal where the engine cannot."""

from __future__ import annotations

from typing import Any

import pytest

from dyno_runtime.openai.errors import ApiError
from dyno_runtime.openai.request import parse_chat, parse_completion
from dyno_runtime.openai.sampling import FEATURES, sampling
from tests.runtime.openai.bodies import TOOL, chat, completion

ASKS: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0},
    "top_p": {"top_p": 0.5},
    "top_k": {"top_k": 1},
    "min_p": {"min_p": 0.5},
    "seed": {"seed": 0},
    "frequency_penalty": {"frequency_penalty": 1},
    "presence_penalty": {"presence_penalty": 1},
    "repetition_penalty": {"repetition_penalty": 2},
    "logit_bias": {"logit_bias": {"1": 1}},
    "ignore_eos": {"ignore_eos": True},
    "min_tokens": {"min_tokens": 1},
    "cache_salt": {"cache_salt": "x"},
    "priority": {"priority": 1},
    "logprobs": {"logprobs": True},
    "tools": {"tools": [TOOL]},
    "response_format": {"response_format": {"type": "json_object"}},
}


@pytest.mark.parametrize("feature", ASKS)
def test_an_engine_that_cannot_is_never_just_not_told(feature):
    request = parse_chat(chat(**ASKS[feature]))
    with pytest.raises(ApiError) as caught:
        sampling(request, FEATURES - {feature})
    # Calls that are forced need no feature of their own.
    what = "'tool_choice' 'auto'" if feature == "tools" else f"'{feature}'"

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
    assert caught.value.message.startswith(f"{what} is not supported by this model's engine")
    assert (caught.value.status, caught.value.param, caught.value.code) == (
        400,
        feature,
        "unsupported_parameter",
    )
    assert feature in sampling(request, {feature}).engine


@pytest.mark.parametrize(
    ("fields", "feature", "param", "engine"),
    [
        ({"logprobs": 0}, "logprobs", "logprobs", {"logprobs": 0}),
        ({"best_of": 2}, "best_of", "best_of", {"best_of": 2}),
        ({"logprobs": 2, "echo": True}, "prompt_logprobs", "echo", {"logprobs": 2, "prompt_logprobs": 2}),
    ],
)
def test_what_completions_ask_for(fields, feature, param, engine):
    request = parse_completion(completion(**fields))
    with pytest.raises(ApiError) as caught:
        sampling(request, FEATURES - {feature})
    assert caught.value.param == param
    assert sampling(request, FEATURES).engine == engine


def test_every_feature_can_be_asked_for():
    assert set(ASKS) | {"best_of", "prompt_logprobs"} == FEATURES


def test_what_happens_anyway_needs_no_feature():
    harmless = {
        "temperature": 1,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "repetition_penalty": 1,
        "logit_bias": {},
        "ignore_eos": False,
        "min_tokens": 0,
        "priority": 0,
        "n": 1,
        "logprobs": False,
        "top_logprobs": 0,
        "tools": [],
        "response_format": {"type": "text"},
    }
    assert sampling(parse_chat(chat(**harmless)), ()).engine == {}
    assert sampling(parse_chat(chat(temperature=1)), {"temperature"}).engine == {"temperature": 1}
    assert sampling(parse_chat(chat(tools=[TOOL], tool_choice="none")), ()).engine == {}
    assert sampling(parse_completion(completion(best_of=2, n=2, echo=True)), ()).engine == {}

"""Bodies for tests of the OpenAI room."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from dyno_runtime.openai.errors import ApiError

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [USER], **fields}).encode()


def completion(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "prompt": "p", **fields}).encode()


def refusal(parse: Callable[[bytes], object], body: bytes) -> tuple[str, str | None, str]:
    with pytest.raises(ApiError) as caught:
        parse(body)
    error = json.loads(caught.value.body())["error"]
    assert (caught.value.status, error["type"]) == (400, "invalid_request_error")
    assert caught.value.retry_after_s is None
    return error["message"], error["param"], error["code"]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value

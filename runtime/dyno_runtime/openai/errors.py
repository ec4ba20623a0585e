"""Refusals in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}` and the status that goes with it.

In: what is wrong, or a `Failure` from inside. Out: an `ApiError` with status, body and, where trying again helps,
the seconds for `Retry-After`.
"""

from __future__ import annotations

import msgspec

from dyno_runtime.wire.messages import Failure

RETRY_AFTER_S = 1

_TYPES = {429: "rate_limit_error", 500: "server_error", 503: "unavailable_error", 504: "timeout_error"}
_STATUS = {
    "bad_request": 400,
    "not_found": 404,
    "too_large": 413,
    "overloaded": 429,
    "engine": 500,
    "timeout": 504,
}


class ErrorDetail(msgspec.Struct, frozen=True):
    """What went wrong. `param` names the field of the request, as in `messages[0].content`."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The body of every refusal, and of an event in the middle of a stream."""

    error: ErrorDetail


class ApiError(Exception):
    """A request that is not answered. `retry_after_s` is set where the same request may succeed later."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = RETRY_AFTER_S if status in (429, 503) else None

    @property
    def type(self) -> str:
        """OpenAI's kind of error."""
        return _TYPES.get(self.status, "invalid_request_error")

    def body(self) -> bytes:
        """The JSON."""
        return msgspec.json.encode(ErrorAnswer(ErrorDetail(self.message, self.type, self.param, self.code)))


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """400: the request itself is wrong."""
    return ApiError(400, message, param=param, code=code)


def unknown_model(name: str) -> ApiError:
    """404: nobody here serves it. Names are exact."""
    return ApiError(404, f"The model {name!r} does not exist.", param="model", code="model_not_found")


def too_long(prompt_tokens: int, max_tokens: int | None, longest_tokens: int, param: str) -> ApiError:
    """400: prompt and answer do not fit into the model. `param` is `messages` or `prompt`."""
    asked = f"{prompt_tokens} in the prompt"
    if max_tokens is not None:
        asked = f"{prompt_tokens + max_tokens} ({asked}, {max_tokens} for the answer)"
    return _over_length(asked, longest_tokens, param)


def much_too_long(fewest_tokens: int, longest_tokens: int, param: str) -> ApiError:
    """400: a prompt of so many tokens, at least, does not fit, whatever the answer."""
    return _over_length(f"{fewest_tokens} or more in the prompt", longest_tokens, param)


def _over_length(asked: str, longest_tokens: int, param: str) -> ApiError:
    message = f"This model's maximum context length is {longest_tokens} tokens. You asked for {asked}."
    return ApiError(400, message, param=param, code="context_length_exceeded")


def of_failure(failure: Failure) -> ApiError:
    """What a client is told of a failure inside. Codes that only say that nobody could take it now are 503."""
    return ApiError(_STATUS.get(failure.code, 503), failure.message, code=failure.code)

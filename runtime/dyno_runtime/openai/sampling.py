"""What a request asks of the engine, and whether the engine can do it.

In: a checked request and the features that the model's engine says it has. Out: a `Sampling`, or an `ApiError` (400)
that names the first field the engine cannot follow; no field is ever ignored. Features are called like the fields.
A field that asks for what happens anyway (`temperature: 1`, `n: 1`, `logprobs: false`) needs no feature.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from itertools import compress
from operator import attrgetter, is_not
from typing import Any

import msgspec

from dyno_runtime.openai.errors import invalid
from dyno_runtime.openai.request import AnyRequest, ChatRequest, CompletionRequest
from dyno_runtime.openai.tools import Forced, forced_calls

# What an engine may say that it can do. `max_tokens` every engine can; stop strings, stop tokens, `n` and `echo` are
# done outside the engine.
FEATURES = frozenset(
    {
        "best_of",
        "cache_salt",
        "frequency_penalty",
        "ignore_eos",
        "logit_bias",
        "logprobs",
        "min_p",
        "min_tokens",
        "presence_penalty",
        "priority",
        "prompt_logprobs",
        "repetition_penalty",
        "response_format",
        "seed",
        "temperature",
        "tools",
        "top_k",
        "top_p",
    }
)

# Fields that go to the engine as they are, with the values that change nothing but a default of the model's own.
_PASSED: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("temperature", (1,)),
    ("top_p", (1,)),
    ("top_k", (-1, 0)),
    ("min_p", (0,)),
    ("seed", ()),
    ("frequency_penalty", (0,)),
    ("presence_penalty", (0,)),
    ("repetition_penalty", (1,)),
    ("logit_bias", ({},)),
    ("cache_salt", ()),
    ("priority", (0,)),
)
_given = partial(is_not, None)
_passed = attrgetter(*(name for name, _ in _PASSED))
# The same, for those without a default of the model's.
_SWITCHES = ("ignore_eos", "min_tokens")
_switches = attrgetter(*_SWITCHES)


class Sampling(msgspec.Struct, frozen=True, gc=False):
    """One request's wishes. `engine` holds what goes to the engine; the rest is done on the way back.

    `choices` answers are wanted for each prompt. `logprobs` is how many alternatives are shown beside each token,
    None for no log-probabilities at all. `forced`: the answer is nothing but tool calls.
    """

    engine: dict[str, Any]
    choices: int = 1
    stop_strings: tuple[str, ...] = ()
    stop_tokens: tuple[int, ...] = ()
    include_stop: bool = False
    keep_special: bool = False
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None
    forced: Forced | None = None

    def for_choice(self, index: int) -> dict[str, Any]:
        """What the engine is told for one of several choices: with a seed, each has its own."""
        seed = self.engine.get("seed")
        return self.engine if not index or seed is None else {**self.engine, "seed": seed + index}


def sampling(request: AnyRequest, features: Collection[str]) -> Sampling:
    """See the module. Raises ApiError (400)."""
    engine: dict[str, Any] = {}
    values = _passed(request)
    for (name, neutral), value in compress(zip(_PASSED, values, strict=True), map(_given, values)):
        if name in features:
            engine[name] = value
        elif value not in neutral:
            raise _unsupported(name)
    if request.ignore_eos or request.min_tokens:
        for name, value in zip(_SWITCHES, _switches(request), strict=True):
            if value:
                if name not in features:
                    raise _unsupported(name)
                engine[name] = value
    forced = None
    if isinstance(request, ChatRequest):
        forced = forced_calls(request) if request.tools else None
        wishes = _chat_wishes(request, forced)
    else:
        wishes = _completion_wishes(request)
    for feature, param, more in wishes:
        if feature not in features:
            raise _no_auto() if feature == "tools" and "response_format" in features else _unsupported(param)
        engine.update(more)
    longest = request.longest_answer
    if longest is not None:
        engine["max_tokens"] = longest
    return Sampling(
        engine=engine,
        choices=request.n or 1,
        stop_strings=request.stops,
        stop_tokens=tuple(request.stop_token_ids or ()),
        include_stop=request.include_stop_str_in_output,
        keep_special=not request.skip_special_tokens,
        min_tokens=request.min_tokens,
        ignore_eos=request.ignore_eos,
        logprobs=engine.get("logprobs"),
        forced=forced,
    )


Wish = tuple[str, str, dict[str, Any]]  # the feature, the field to blame, what the engine is told


def _chat_wishes(request: ChatRequest, forced: Forced | None) -> list[Wish]:
    wishes: list[Wish] = []
    if request.logprobs:
        wishes.append(("logprobs", "logprobs", {"logprobs": request.top_logprobs or 0}))
    if forced is not None:
        wishes.append(("response_format", "tools", {"response_format": forced.form}))
    elif request.tools and uses_tools(request):
        more = {
            "tools": msgspec.to_builtins(request.tools),
            "tool_choice": msgspec.to_builtins(request.tool_choice or "auto"),
            "parallel_tool_calls": request.parallel_tool_calls is not False,
        }
        wishes.append(("tools", "tools", more))
    form = request.response_format
    if form is not None and form.type != "text":
        more = {"response_format": msgspec.to_builtins(form)}
        wishes.append(("response_format", "response_format", more))
    return wishes


def _completion_wishes(request: CompletionRequest) -> list[Wish]:
    wishes: list[Wish] = []
    if request.logprobs is not None:
        wishes.append(("logprobs", "logprobs", {"logprobs": request.logprobs}))
        if request.echo:
            wishes.append(("prompt_logprobs", "echo", {"prompt_logprobs": request.logprobs}))
    if request.best_of is not None and request.best_of > (request.n or 1):
        wishes.append(("best_of", "best_of", {"best_of": request.best_of}))
    return wishes


def uses_tools(request: ChatRequest) -> bool:
    """Whether the model is shown the tools. With `tool_choice: none` it is not, and so cannot call one."""
    return bool(request.tools) and request.tool_choice != "none"


def _no_auto() -> Exception:
    message = (
        "'tool_choice' 'auto' is not supported by this model's engine; ask for 'required', for a function by its "
        "name, or for 'none'."
    )
    return invalid(message, "tools", "unsupported_parameter")


def _unsupported(param: str) -> Exception:
    return invalid(f"'{param}' is not supported by this model's engine.", param, "unsupported_parameter")

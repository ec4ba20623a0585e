"""From a job to what vLLM's SamplingParams are made of.

In: a `Sampling`, the model's own defaults. Out: keyword arguments; text is none of the engine's business, so nothing
is detokenised and no stop string is looked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dyno_runtime.engine.base import BadJob, EngineError, Job, Logprob
from dyno_runtime.wire.sampling import Sampling

# What is passed on under its own name where the client asked for it.
PASSED = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logit_bias",
    "logprobs",
)
CAPABILITIES = frozenset(
    {*PASSED, "max_tokens", "min_tokens", "ignore_eos", "stop_token_ids", "response_format", "cache_salt"}
)


def sampling_arguments(job: Job, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments. Raises EngineError where this job cannot be done here."""
    wanted: Sampling = job.sampling
    made: dict[str, Any] = {key: value for key, value in defaults.items() if key in PASSED}
    for name in PASSED:
        value = getattr(wanted, name)
        if value is not None:
            made[name] = value
    if made.get("top_k") == -1:
        made["top_k"] = 0
    made["max_tokens"] = wanted.max_tokens
    made["min_tokens"] = wanted.min_tokens
    made["ignore_eos"] = wanted.ignore_eos
    made["detokenize"] = False
    if wanted.stop_token_ids:
        made["stop_token_ids"] = list(wanted.stop_token_ids)
    if wanted.response_format is not None:
        if job.answered:
            raise EngineError("an answer with a response_format cannot be continued by another worker")
        made["structured_outputs"] = structured(wanted.response_format)
    return made


def structured(form: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's response_format as vLLM's structured outputs. Raises BadJob."""
    kind = form.get("type")
    if kind == "json_object":
        return {"json_object": True}
    if kind == "json_schema":
        schema = (form.get("json_schema") or {}).get("schema")
        return {"json_object": True} if schema is None else {"json": schema}
    raise BadJob(f"this engine knows no response_format of type {kind!r}")


def logprobs_of(tokens: Sequence[int], given: Sequence[Mapping[int, Any]], top: int) -> list[Logprob]:
    """vLLM's log-probabilities of some tokens, each with the `top` likeliest ones, best first."""
    made = []
    for token, found in zip(tokens, given, strict=False):
        ranked = sorted(found.items(), key=lambda item: -item[1].logprob)
        likeliest = [(number, float(one.logprob)) for number, one in ranked if (one.rank or 0) <= top][:top]
        own = found.get(token)
        made.append(Logprob(float(own.logprob) if own is not None else -9999.0, tuple(likeliest)))
    return made

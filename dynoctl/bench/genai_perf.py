"""genai-perf: its command line for a load, and what its files say.

In: a load. Out: argv. And from `prof.json` (every request, with the time of each piece) and `prof_genai_perf.json`
(what they come to): samples and `Metrics`. It counts tokens by the text, so the counter of a tokenizer is needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dynoctl.bench.aiperf import Parsed, goodput, lengths, told
from dynoctl.bench.load import Load
from dynoctl.bench.samples import Sample, metrics
from dynoctl.errors import UsageError

REQUIREMENT = "genai-perf==0.0.16"
BINARY = "perf-analyzer==2.60.0"
BINARY_GLIBC = (2, 38)
REQUESTS = "prof.json"
SUMMARY = "prof_genai_perf.json"


def argv(program: str, url: str, model: str, tokenizer: str, load: Load, folder: str) -> list[str]:
    """The command. Raises UsageError for loads that it does not know.

    Its own warm-up sends the prompts that are measured afterwards, which then come from the cache; so there is none
    here, and the warm-up is done by somebody else.
    """
    why = refusal(load)
    if why is not None:
        raise UsageError(why, next="--tool aiperf")
    words = [program, "profile", "-m", model, "-u", url, "--endpoint-type", "chat", "--streaming"]
    words += ["--tokenizer", tokenizer, "--artifact-dir", folder, "--profile-export-file", REQUESTS]
    words += [*lengths(load), "--extra-inputs", "ignore_eos:true"]
    if not load.output_stddev:
        words += ["--extra-inputs", f"max_tokens:{load.output_tokens}"]
    words += ["--request-count", str(load.requests), "--num-dataset-entries", str(load.requests)]
    words += ["--warmup-request-count", "0", "--random-seed", str(load.seed)]
    if load.rate_per_s is not None:
        words += ["--request-rate", f"{load.rate_per_s:g}"]
    else:
        words += ["--concurrency", str(load.concurrency)]
    found = goodput(load)
    return words + ([found[0], *found[1].split()] if found else [])


def refusal(load: Load) -> str | None:
    """Why it cannot measure this load; None where it can."""
    if load.trace is not None or load.turns > 1:
        return "genai-perf does not replay traces, and has no conversations that fit here"
    if load.output_tokens == 1 and not load.output_stddev:
        return "genai-perf takes answers that come in one piece, as those of one token do, for none"
    fewest = load.rate_per_s or load.concurrency or 0
    if load.requests < fewest:
        what = "requests a second" if load.rate_per_s is not None else "at a time"
        return (
            f"genai-perf takes {fewest:g} {what} only with as many --requests, and here are {load.requests}"
        )
    return None


def parse(requests: str, summary: str, load: Load, gpus: int, count: Callable[[str], int]) -> Parsed:
    """From the content of the two files.

    Raises:
        KeyError, TypeError, ValueError, IndexError: they are not what this version writes.
    """
    measured = json.loads(requests)["experiments"][0]["requests"]
    if not measured:
        raise ValueError("there is no measured request in it")
    measured.sort(key=lambda one: int(one["timestamp"]))
    start_ns = int(measured[0]["timestamp"])
    end_ns = max(int(one["response_timestamps"][-1]) for one in measured if one["response_timestamps"])
    asked = load.output_tokens if load.exact_output else None  # whatever `--extra-inputs` made of it
    samples = [_sample(one, start_ns, asked, count) for one in measured]
    own = metrics(samples, (end_ns - start_ns) / 1e9, load.slo, gpus)
    # In what it sums up, requests that failed within their stream are as good as others.
    found = own if own.errors else told(json.loads(summary), own, gpus)
    return Parsed(samples, found, (start_ns, end_ns), [])


def _sample(one: dict[str, Any], start_ns: int, asked: int | None, count: Callable[[str], int]) -> Sample:
    sent_ns = int(one["timestamp"])
    times = [int(at) for at in one["response_timestamps"]]
    pieces, error = _pieces([str(output["response"]) for output in one["response_outputs"]])
    spoken = [at for at, piece in zip(times, pieces, strict=True) if piece]
    start_s, latency_s = (sent_ns - start_ns) / 1e9, (max(times, default=sent_ns) - sent_ns) / 1e9
    if error is not None:
        return Sample(start_s, latency_s, error=error)
    first_s = (spoken[0] - sent_ns) / 1e9 if spoken else None
    payload = json.loads(one["request_inputs"]["payload"])
    tokens = sum(count(str(message["content"])) for message in payload["messages"])
    asked = payload.get("max_tokens") if asked is None else asked
    return Sample(start_s, latency_s, first_s, tokens, count("".join(pieces)), None, asked)


def _pieces(responses: list[str]) -> tuple[list[str], str | None]:
    """What was said in each piece of a stream, which may hold several events or end within one; and the error that
    the stream ended in."""
    pieces: list[str] = []
    error, whole, rest = None, False, ""
    for number, response in enumerate(responses, start=1):
        *lines, rest = (rest + response).split("\n")
        said = ""
        for line in lines if number < len(responses) else [*lines, rest]:
            body = line.removeprefix("data:").strip()
            whole = whole or body == "[DONE]"
            if not line.startswith("data:") or body == "[DONE]":
                continue
            event = json.loads(body)
            error = _error(event["error"]) if event.get("error") else error
            said += "".join(_text(choice.get("delta", {})) for choice in event.get("choices", []))
        pieces.append(said)
    return pieces, error or (None if whole else "the stream was cut off")


def _text(delta: dict[str, Any]) -> str:
    return str(delta.get("content") or delta.get("reasoning_content") or "")


def _error(said: Any) -> str:
    """In the server's own words where it has some."""
    message = said.get("message") if isinstance(said, dict) else said
    return f"the stream ended in an error: {message or json.dumps(said)}"

"""aiperf: its command line for a load, and what its files say.

In: a load. Out: argv. And from `profile_export.jsonl` (a line a request, those of the warm-up too) and
`profile_export_aiperf.json` (what they come to): samples and `Metrics`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dynoctl.bench.load import Load
from dynoctl.bench.samples import Metrics, Sample, Spread, metrics

REQUIREMENT = "aiperf==0.13.0"
SUMMARY = "profile_export_aiperf.json"
REQUESTS = "profile_export.jsonl"
GOODPUT = {"ttft_ms": "time_to_first_token", "itl_ms": "inter_token_latency", "latency_ms": "request_latency"}
COUNT = "output_sequence_length"
PER_USER = "output_token_throughput_per_user"
NO_COUNT = "the stream ended before the server told how many tokens it was"
SPREADS = {
    "ttft_ms": "time_to_first_token",
    "itl_ms": "inter_token_latency",
    "latency_ms": "request_latency",
    "input_tokens": "input_sequence_length",
    "output_tokens": COUNT,
}


def argv(
    program: str, url: str, model: str, tokenizer: str, load: Load, folder: str, trace: str | None
) -> list[str]:
    """The command. `trace` is the file to replay, if that is the load."""
    words = [program, "profile", "--model", model, "--url", url, "--endpoint-type", "chat", "--streaming"]
    words += ["--tokenizer", tokenizer, "--artifact-dir", folder, "--ui", "none", "--export-level", "records"]
    words += [
        "--use-server-token-count",
        "--random-seed",
        str(load.seed),
        "--extra-inputs",
        "ignore_eos:true",
    ]
    if load.warmup:
        # Else the warm-up puts the first prompts into the cache.
        words += ["--warmup-request-count", str(load.warmup), "--cache-bust", "warmup_isolation_first_turn"]
    if trace is not None:
        words += ["--input-file", trace, "--custom-dataset-type", "mooncake_trace", "--fixed-schedule"]
        return words
    words += lengths(load)
    words += ["--request-count", str(load.requests), "--dataset-sampling-strategy", "sequential"]
    if load.turns > 1:
        words += ["--conversation-turn-mean", str(load.turns)]
        words += ["--conversation-num", str(-(-load.requests // load.turns))]
    else:
        words += ["--num-dataset-entries", str(load.requests)]
    if load.rate_per_s is not None:
        words += ["--request-rate", f"{load.rate_per_s:g}"]
    if load.concurrency is not None:
        words += ["--concurrency", str(load.concurrency)]
    return words + goodput(load)


def lengths(load: Load) -> list[str]:
    """Of prompts and answers, as aiperf and genai-perf have them."""
    words = ["--synthetic-input-tokens-mean", str(load.input_tokens)]
    words += ["--synthetic-input-tokens-stddev", str(load.input_stddev)]
    words += ["--output-tokens-mean", str(load.output_tokens)]
    words += ["--output-tokens-stddev", str(load.output_stddev)]
    if not load.output_stddev:
        words += ["--extra-inputs", f"min_tokens:{load.output_tokens}"]
    if load.prefix_tokens:
        words += [
            "--num-prefix-prompts",
            str(load.prefixes),
            "--prefix-prompt-length",
            str(load.prefix_tokens),
        ]
    return words


def goodput(load: Load) -> list[str]:
    """The objectives, in the tools' own words."""
    limits = [(word, getattr(load.slo, name)) for name, word in GOODPUT.items()]
    said = [f"{word}:{limit:g}" for word, limit in limits if limit is not None]
    return ["--goodput", " ".join(said)] if said else []


def with_extra(words: list[str], extra: Sequence[str]) -> list[str]:
    """The command with a person's own arguments behind it; an option of ours that is given again gives way, since
    aiperf takes none twice. `--extra-inputs` may well be given several times."""
    again = {word.partition("=")[0] for word in extra if word.startswith("--")} - {"--extra-inputs"}
    kept: list[str] = []
    skips = False
    for word in words:
        if word in again:
            skips = True
        elif skips and not word.startswith("--"):
            skips = False
        else:
            skips = False
            kept.append(word)
    return [*kept, *extra]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a tool's files say. The window is that of the measured requests, by the wall clock."""

    samples: list[Sample]
    metrics: Metrics
    window_ns: tuple[int, int]
    warm_errors: list[str]


def parse(requests: str, summary: str | None, load: Load, gpus: int) -> Parsed:
    """From the content of the two files; without a summary there was no request that it could sum up.

    Raises:
        KeyError, TypeError, ValueError: they are not what this version writes.
    """
    lines = [json.loads(line) for line in requests.splitlines() if line.strip()]
    warm = [line for line in lines if line["metadata"]["benchmark_phase"] == "warmup"]
    measured = [line for line in lines if line["metadata"]["benchmark_phase"] == "profiling"]
    if not measured:
        raise ValueError("there is no measured request in it")
    measured.sort(key=lambda line: int(line["metadata"]["request_start_ns"]))
    start_ns = int(measured[0]["metadata"]["request_start_ns"])
    end_ns = max(int(line["metadata"]["request_end_ns"]) for line in measured)
    asked = load.output_tokens if load.exact_output else None
    samples = [_sample(line, start_ns, asked) for line in measured]
    own = metrics(samples, (end_ns - start_ns) / 1e9, load.slo, gpus)
    if summary is None:
        if any(one.error is None for one in samples):
            raise ValueError(f"there is no {SUMMARY} beside it")
    elif NO_COUNT not in own.errors:  # which it takes for answers as good as others
        own = told(json.loads(summary), own, gpus)
    errors = [error for line in warm if (error := _error(line)) is not None]
    return Parsed(samples, own, (start_ns, end_ns), errors)


def told(values: dict[str, Any], own: Metrics, gpus: int) -> Metrics:
    """What the tool itself says, where it says it. Raises KeyError, TypeError."""
    # It writes nothing of what no request had: gaps of answers of one token, a speed where all came at one moment.
    had = {name: word for name, word in SPREADS.items() if word in values or getattr(own, name) is not None}
    spreads = {name: _spread(values[word]) for name, word in had.items()}
    per_user = own.output_tokens_per_s_per_user
    if per_user is not None or PER_USER in values:
        per_user = float(values[PER_USER]["avg"])
    tokens_per_s = float(values["output_token_throughput"]["avg"])
    requests_per_s = float(values["request_throughput"]["avg"])
    # What genai-perf says of goodput is wrong where an answer came in one piece: it takes gaps of others for its own.
    good = own.good_requests_per_s
    if good is not None and own.requests_per_s:
        good *= requests_per_s / own.requests_per_s
    return msgspec.structs.replace(
        own,
        **spreads,
        requests_per_s=requests_per_s,
        output_tokens_per_s=tokens_per_s,
        output_tokens_per_s_per_user=per_user,
        output_tokens_per_s_per_gpu=tokens_per_s / gpus if gpus else None,
        good_requests_per_s=good,
    )


def _spread(values: dict[str, Any]) -> Spread:
    return Spread(**{name: float(values[name]) for name in ("avg", "p50", "p90", "p99", "min", "max", "std")})


def _sample(line: dict[str, Any], start_ns: int, asked: int | None) -> Sample:
    metadata, found = line["metadata"], line["metrics"]
    began_ns, ended_ns = int(metadata["request_start_ns"]), int(metadata["request_end_ns"])
    start_s = (began_ns - start_ns) / 1e9
    error = _error(line)
    if error is not None:
        return Sample(start_s, (ended_ns - began_ns) / 1e9, error=error)

    def value(name: str) -> Any:
        return found[name]["value"] if name in found else None

    first_ms = value("time_to_first_token")
    tokens, off_percent = value(COUNT) or 0, value("osl_mismatch_diff_pct")
    if asked is None and tokens and off_percent is not None:
        asked = round(tokens / (1 + off_percent / 100))
    return Sample(
        start_s,
        float(found["request_latency"]["value"]) / 1e3,
        None if first_ms is None else float(first_ms) / 1e3,
        value("input_sequence_length"),
        tokens,
        value("usage_prompt_cache_read_tokens"),
        asked,
    )


def _error(line: dict[str, Any]) -> str | None:
    """`status 404: the server's own words`; None where there is nothing wrong with a request."""
    found = line.get("error")
    if not found:
        return None if COUNT in line["metrics"] else NO_COUNT
    said = str(found.get("message") or found.get("type"))
    try:
        said = str(json.loads(said)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        said = said.strip().split("\n")[0][:200]
    return f"status {found['code']}: {said}" if found.get("code") else said


def done(lines: Iterable[str]) -> tuple[int, int]:
    """How many requests of the warm-up and how many measured ones are in a file that is still being written."""
    phases = [line.partition('"benchmark_phase":"')[2].partition('"')[0] for line in lines]
    return phases.count("warmup"), phases.count("profiling")

"""The command lines of aiperf and genai-perf, and their real files, read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dynoctl.bench import aiperf, genai_perf
from dynoctl.bench.load import Load
from dynoctl.bench.samples import metrics
from dynoctl.bench.slo import NO_SLO, Slo
from dynoctl.errors import UsageError

GOLDEN = Path(__file__).parents[2] / "golden" / "bench"
LOAD = Load(input_tokens=40, output_tokens=4, concurrency=2, requests=4, warmup=2, slo=Slo(ttft_ms=60.0))
SENT = "The model 'nomodel' does not exist."


def read(*path: str) -> str:
    return GOLDEN.joinpath(*path).read_text()


def test_aiperf_is_read() -> None:
    summary = read("aiperf", aiperf.SUMMARY)
    found = aiperf.parse(read("aiperf", aiperf.REQUESTS), summary, LOAD, 2)
    told = json.loads(summary)
    assert len(found.samples) == 4
    assert found.warm_errors == []
    assert [one.output_tokens for one in found.samples] == [4] * 4
    assert {one.cached_tokens for one in found.samples} == {32}
    assert found.metrics.ttft_ms is not None
    assert found.metrics.ttft_ms.p99 == told["time_to_first_token"]["p99"]
    # What it says of all is what follows from each.
    assert found.metrics.ttft_ms.avg == pytest.approx(sum(one.ttft_s or 0 for one in found.samples) / 4 * 1e3)
    assert found.metrics.output_tokens_per_s == told["output_token_throughput"]["avg"]
    assert found.metrics.output_tokens_per_s_per_gpu == found.metrics.output_tokens_per_s / 2
    assert found.metrics.good_requests_per_s == pytest.approx(told["goodput"]["avg"])
    assert found.window_ns[1] - found.window_ns[0] == pytest.approx(found.metrics.duration_s * 1e9)


def test_what_each_request_asked_for_where_lengths_differ() -> None:
    drawn = replace(LOAD, output_stddev=2)
    lines = [json.loads(line) for line in read("aiperf", aiperf.REQUESTS).splitlines()]
    lines[-1]["metrics"]["osl_mismatch_diff_pct"]["value"] = -50.0
    found = aiperf.parse("\n".join(map(json.dumps, lines)), read("aiperf", aiperf.SUMMARY), drawn, 0)
    assert sorted(one.asked_tokens or 0 for one in found.samples) == [4, 4, 4, 8]
    told = json.loads(read("genai-perf", genai_perf.REQUESTS))
    inputs = told["experiments"][0]["requests"][0]["request_inputs"]
    inputs["payload"] = inputs["payload"].replace('"max_tokens":4', '"max_tokens":9')
    of_genai = genai_perf.parse(json.dumps(told), read("genai-perf", genai_perf.SUMMARY), drawn, 0, len)
    assert sorted(one.asked_tokens or 0 for one in of_genai.samples) == [4, 4, 4, 9]


def test_genai_perf_is_judged_by_what_was_asked_of_it_and_not_by_what_it_made_of_that() -> None:
    """Its `--extra-inputs max_tokens:4` stands in every payload."""
    ten = replace(LOAD, output_tokens=10)
    found = genai_perf.parse(
        read("genai-perf", genai_perf.REQUESTS), read("genai-perf", genai_perf.SUMMARY), ten, 0, len
    )
    assert {one.asked_tokens for one in found.samples} == {10}


def test_what_a_user_gets_is_what_the_tools_call_so() -> None:
    """Ours, of the same requests."""
    for found in (
        aiperf.parse(read("aiperf", aiperf.REQUESTS), read("aiperf", aiperf.SUMMARY), LOAD, 0),
        genai_parsed(),
    ):
        ours = metrics(found.samples, found.metrics.duration_s, LOAD.slo, 0)
        theirs = found.metrics.output_tokens_per_s_per_user
        assert ours.output_tokens_per_s_per_user == pytest.approx(theirs)


def test_aiperf_that_got_errors_alone_writes_no_summary() -> None:
    found = aiperf.parse(read("aiperf-errors", aiperf.REQUESTS), None, LOAD, 0)
    assert found.metrics.errors == {f"status 404: {SENT}": 2}
    assert (found.metrics.requests, found.metrics.ttft_ms) == (0, None)
    assert found.warm_errors == [f"status 404: {SENT}"]


def test_answers_that_came_at_one_moment_have_no_speed_for_a_user() -> None:
    told = json.loads(read("aiperf", aiperf.SUMMARY))
    lines = [json.loads(line) for line in read("aiperf", aiperf.REQUESTS).splitlines()]
    for line in lines:
        line["metrics"]["time_to_first_token"] = line["metrics"]["request_latency"]
    text = "\n".join(map(json.dumps, lines))
    del told["output_token_throughput_per_user"]  # as it leaves it out then
    found = aiperf.parse(text, json.dumps(told), LOAD, 0)
    assert found.metrics.output_tokens_per_s_per_user is None
    with pytest.raises(KeyError, match="output_token_throughput_per_user"):
        aiperf.parse(read("aiperf", aiperf.REQUESTS), json.dumps(told), LOAD, 0)


def test_aiperf_takes_broken_streams_for_answers_and_we_do_not() -> None:
    summary = read("aiperf-broken", aiperf.SUMMARY)
    assert json.loads(summary)["request_error_rate"]["avg"] == 0.0
    found = aiperf.parse(read("aiperf-broken", aiperf.REQUESTS), summary, LOAD, 0)
    error = "the stream ended before the server told how many tokens it was"
    assert (found.metrics.errors, found.warm_errors) == ({error: 3}, [error])
    assert (found.metrics.requests, found.metrics.requests_per_s) == (0, 0.0)


def genai_parsed() -> aiperf.Parsed:
    summary = read("genai-perf", genai_perf.SUMMARY)
    return genai_perf.parse(read("genai-perf", genai_perf.REQUESTS), summary, LOAD, 0, len)


def test_genai_perf_is_read() -> None:
    found = genai_parsed()
    told = json.loads(read("genai-perf", genai_perf.SUMMARY))
    assert [(one.input_tokens, one.output_tokens) for one in found.samples] == [(40, 4)] * 4
    assert found.metrics.itl_ms is not None
    assert found.metrics.itl_ms.avg == told["inter_token_latency"]["avg"]
    assert found.metrics.itl_ms.avg == pytest.approx(sum(one.itl_s or 0 for one in found.samples) / 4 * 1e3)
    assert found.metrics.good_requests_per_s == pytest.approx(told["request_goodput"]["avg"])


LOADS = {
    "turns": replace(LOAD, turns=2, warmup=1, slo=NO_SLO),
    "rate": replace(LOAD, rate_per_s=20.0, prefix_tokens=64, requests=3, warmup=1),
    "one-token": replace(LOAD, output_tokens=1, concurrency=1, requests=2, warmup=1, slo=NO_SLO),
    "trace": replace(LOAD, trace="t", concurrency=None, warmup=1, slo=NO_SLO),
}
TOKENS = {  # of prompts, of answers, out of the cache, in the order in which they began
    "turns": ([58, 58, 121, 121], [4] * 4, [32, 32, 48, 48]),
    "rate": ([122] * 3, [4] * 3, [64] * 3),
    "one-token": ([58] * 2, [1] * 2, [0, 32]),
    "trace": ([618, 618, 1118, 618], [4, 5, 6, 1], [0, 512, 512, 512]),
}


@pytest.mark.parametrize("shape", LOADS)
def test_aiperf_is_read_whatever_the_load(shape: str) -> None:
    folder, load = f"aiperf-{shape}", LOADS[shape]
    told = json.loads(read(folder, aiperf.SUMMARY))
    found = aiperf.parse(read(folder, aiperf.REQUESTS), json.dumps(told), load, 0)
    prompts, answers, cached = TOKENS[shape]
    assert [one.input_tokens for one in found.samples] == prompts
    assert [one.output_tokens for one in found.samples] == answers
    assert [one.asked_tokens for one in found.samples] == answers
    assert [one.cached_tokens for one in found.samples] == cached
    assert found.metrics.cached_tokens == told["total_usage_prompt_cache_read_tokens"]["avg"] == sum(cached)
    assert found.metrics.requests == told["request_count"]["avg"] == len(answers)
    one_token = shape == "one-token"
    assert (found.metrics.itl_ms is None, found.metrics.output_tokens_per_s_per_user is None) == (
        one_token,
        one_token,
    )
    good = told["goodput"]["avg"] if load.slo.asked else None
    assert found.metrics.good_requests_per_s == (good if good is None else pytest.approx(good))
    if shape == "trace":  # at its times, and the first one at once
        due = [0.0, 0.4, 0.8, 1.5]
        assert [one.start_s for one in found.samples] == pytest.approx(due, abs=0.1)


def test_genai_perf_at_a_rate_is_read() -> None:
    told = json.loads(read("genai-perf-rate", genai_perf.SUMMARY))
    load = replace(LOADS["rate"], rate_per_s=5.0, requests=5)
    found = genai_perf.parse(
        read("genai-perf-rate", genai_perf.REQUESTS), json.dumps(told), load, 0, count=len
    )
    assert [(one.input_tokens, one.output_tokens) for one in found.samples] == [(105, 4)] * 5
    assert found.metrics.good_requests_per_s == pytest.approx(told["request_goodput"]["avg"])
    assert found.metrics.ttft_ms is not None
    assert found.metrics.ttft_ms.avg == pytest.approx(sum(one.ttft_s or 0 for one in found.samples) / 5 * 1e3)


def test_genai_perf_takes_errors_within_a_stream_for_answers_and_we_do_not() -> None:
    told = json.loads(read("genai-perf-errors", genai_perf.SUMMARY))
    assert told["request_count"]["avg"] == 6
    requests = read("genai-perf-errors", genai_perf.REQUESTS)
    found = genai_perf.parse(requests, json.dumps(told), LOAD, 0, len)
    assert found.metrics.errors == {"the stream ended in an error: lost the worker": 6}
    assert (found.metrics.requests, found.metrics.requests_per_s, found.metrics.ttft_ms) == (0, 0.0, None)


def test_genai_perf_mixes_up_what_kept_the_limits_and_we_do_not() -> None:
    """Where answers come in one piece, it has fewer gaps than requests, and takes them for those of others."""
    told = json.loads(read("genai-perf", genai_perf.SUMMARY))
    told["request_goodput"]["avg"] /= 2
    requests = read("genai-perf", genai_perf.REQUESTS)
    found = genai_perf.parse(
        requests, json.dumps(told), replace(LOAD, slo=Slo(latency_ms=9000.0)), 0, len
    ).metrics
    assert found.good_requests_per_s == pytest.approx(found.requests_per_s)


def test_a_stream_of_genai_perf_may_be_cut_anywhere() -> None:
    whole = json.loads(read("genai-perf", genai_perf.REQUESTS))
    summary = read("genai-perf", genai_perf.SUMMARY)
    for number, one in enumerate(whole["experiments"][0]["requests"]):
        first, second = (one["response_outputs"][place]["response"] for place in (1, 2))
        cut = (first + second)[: len(first) + 12 * number - 20]
        one["response_outputs"][1]["response"] = cut
        one["response_outputs"][2]["response"] = (first + second)[len(cut) :]
    found = genai_perf.parse(json.dumps(whole), summary, LOAD, 0, len)
    assert ([one.output_tokens for one in found.samples], found.metrics.errors) == ([4] * 4, {})
    for one in whole["experiments"][0]["requests"]:
        one["response_outputs"].pop()
        one["response_timestamps"].pop()
    found = genai_perf.parse(json.dumps(whole), summary, LOAD, 0, len)
    assert found.metrics.errors == {"the stream was cut off": 4}


@pytest.mark.parametrize("name", ["time_to_first_token", "output_token_throughput", "output_sequence_length"])
def test_a_summary_of_another_version_is_not_taken(name: str) -> None:
    told = json.loads(read("aiperf", aiperf.SUMMARY))
    told[f"{name}_ms"] = told.pop(name)
    with pytest.raises(KeyError, match=name):
        aiperf.parse(read("aiperf", aiperf.REQUESTS), json.dumps(told), LOAD, 0)


def test_half_of_aiperfs_files_is_not_enough() -> None:
    with pytest.raises(ValueError, match=r"there is no profile_export_aiperf\.json beside it"):
        aiperf.parse(read("aiperf", aiperf.REQUESTS), None, LOAD, 0)
    with pytest.raises(ValueError, match="there is no measured request in it"):
        aiperf.parse("", None, LOAD, 0)


def test_the_command_of_aiperf() -> None:
    found = aiperf.argv("aiperf", "http://h:1", "m", "/t", Load(), "/out", None)
    assert " ".join(found) == (
        "aiperf profile --model m --url http://h:1 --endpoint-type chat --streaming --tokenizer /t "
        "--artifact-dir /out --ui none --export-level records --use-server-token-count --random-seed 123 "
        "--extra-inputs ignore_eos:true "
        "--warmup-request-count 10 --cache-bust warmup_isolation_first_turn --synthetic-input-tokens-mean 3000 "
        "--synthetic-input-tokens-stddev 0 --output-tokens-mean 150 --output-tokens-stddev 0 --extra-inputs "
        "min_tokens:150 --request-count 40 --dataset-sampling-strategy sequential --num-dataset-entries 40 "
        "--concurrency 10"
    )
    more = replace(LOAD, rate_per_s=2.5, turns=2, prefix_tokens=100, prefixes=3, concurrency=None)
    words = " ".join(aiperf.argv("aiperf", "http://h:1", "m", "/t", more, "/out", None))
    assert "--num-prefix-prompts 3 --prefix-prompt-length 100" in words
    assert "--conversation-turn-mean 2 --conversation-num 2 --request-rate 2.5" in words
    assert words.endswith("--goodput time_to_first_token:60")
    traced = " ".join(
        aiperf.argv("aiperf", "http://h:1", "m", "/t", replace(LOAD, trace="x"), "/out", "/t.jsonl")
    )
    assert traced.endswith("--input-file /t.jsonl --custom-dataset-type mooncake_trace --fixed-schedule")


def test_the_command_of_genai_perf() -> None:
    found = genai_perf.argv("genai-perf", "http://h:1", "m", "/t", Load(), "/out")
    assert " ".join(found) == (
        "genai-perf profile -m m -u http://h:1 --endpoint-type chat --streaming --tokenizer /t --artifact-dir /out "
        "--profile-export-file prof.json --synthetic-input-tokens-mean 3000 --synthetic-input-tokens-stddev 0 "
        "--output-tokens-mean 150 --output-tokens-stddev 0 --extra-inputs min_tokens:150 --extra-inputs "
        "ignore_eos:true --extra-inputs max_tokens:150 --request-count 40 --num-dataset-entries 40 "
        "--warmup-request-count 0 --random-seed 123 --concurrency 10"
    )


@pytest.mark.parametrize(
    ("load", "why"),
    [
        (
            replace(LOAD, turns=2),
            "genai-perf does not replay traces, and has no conversations that fit here",
        ),
        (
            replace(LOAD, trace="x"),
            "genai-perf does not replay traces, and has no conversations that fit here",
        ),
        (
            replace(LOAD, output_tokens=1),
            "genai-perf takes answers that come in one piece, as those of one token do, for none",
        ),
        (
            replace(LOAD, rate_per_s=4.5),
            "genai-perf takes 4.5 requests a second only with as many --requests, and here are 4",
        ),
        (
            replace(LOAD, concurrency=5),
            "genai-perf takes 5 at a time only with as many --requests, and here are 4",
        ),
    ],
)
def test_what_genai_perf_cannot_measure(load: Load, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        genai_perf.argv("genai-perf", "http://h:1", "m", "/t", load, "/out")
    assert (caught.value.message, caught.value.next) == (why, "--tool aiperf")


def test_what_stands_behind_the_dashes_wins() -> None:
    words = ["aiperf", "profile", "--streaming", "--ui", "none", "--extra-inputs", "a:1", "--seed", "1"]
    found = aiperf.with_extra(words, ["--ui", "simple", "--seed=2", "--extra-inputs", "b:2", "--streaming"])
    assert " ".join(found) == (
        "aiperf profile --extra-inputs a:1 --ui simple --seed=2 --extra-inputs b:2 --streaming"
    )

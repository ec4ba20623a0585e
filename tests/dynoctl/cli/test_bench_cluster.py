"""`dynoctl bench` against a real cluster of mock engines, with our own generator and with aiperf and genai-perf.

The tests of this file share one cluster and run in their order; the last ones break it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynoctl.bench.counters import total
from tests.dynoctl.cli.cluster import Cluster, brought_up

ROOT = Path(__file__).resolve().parents[3]
TEXT = """\
name: NAME
model: {{id: mock}}
engine: {{kind: mock, block_size: 16, max_model_len: 8192, args: {{speedup: 20, kv_blocks: 8192}}}}
nodes: {{local: {{state_dir: {root}}}}}
services: {{etcd: {{port: {etcd}}}, nats: {{port: {nats}}}}}
roles:
  frontend: {{port: {http}, stream_port: {stream}}}
  processor: {{}}
  router: {{policy: kv}}
  decode: [{{stream_port: {decode0}}}, {{stream_port: {decode1}}}]
"""
SMALL = ["--input-tokens", "100", "--output-tokens", "8", "--requests", "12", "--warmup", "4", "-c", "2"]


@pytest.fixture(scope="module")
def it() -> Iterator[Cluster]:
    with brought_up("benched", TEXT) as made:
        yield made


@pytest.fixture
def tools(it: Cluster) -> Path:
    """The environments of aiperf and genai-perf, and C libraries, as `scripts/test` has made them."""
    said = subprocess.run(
        [ROOT / "scripts" / "test-tools", "path"], capture_output=True, text=True, check=True
    )
    place = Path(said.stdout.strip())
    if not (place / ".complete").exists():
        reason = f"the tools are not in {place}; get them with: scripts/test-tools"
        (pytest.fail if os.environ.get("DYNO_REQUIRE_LAB") == "1" else pytest.skip)(reason)
    envs = Path(it.env["DYNOCTL_HOME"]) / "bench" / "envs"
    if not envs.exists():
        envs.parent.mkdir(parents=True, exist_ok=True)
        envs.symlink_to(place / "home" / "bench" / "envs")
    return place


def record(it: Cluster) -> Any:
    found = it.run("bench", "show", "last", "--json")
    return found.json


def test_the_usual_command_measures_what_was_asked(it: Cluster) -> None:
    done = it.run("bench", "--tool", "builtin")
    assert done.code == 0, done.out + done.err
    assert done.out.startswith("benched: mock, measured by builtin 0.1.0\n  3000 in, 150 out\n")
    assert "\nvalid\n" in done.out
    found = record(it)
    (point,) = found["points"]
    assert (point["metrics"]["requests"], point["load"]["concurrency"], point["load"]["seed"]) == (
        40,
        10,
        123,
    )
    assert point["metrics"]["output_tokens"]["min"] == point["metrics"]["output_tokens"]["max"] == 150
    assert point["metrics"]["input_tokens"]["avg"] > 3000  # and what the chat template adds
    assert set(point["before"]["units"]) >= {"local/frontend-0", "local/decode-0", "local/decode-1"}
    by = "dyno_prompt_tokens_total"
    counters = (point["before"]["counters"], point["after"]["counters"])
    assert sum(value for name, value in counters[1].items() if name.startswith(by)) > 50 * 3000
    target, node = found["target"], found["nodes"]["local"]
    assert (target["cluster"], target["generation"], len(target["topology"])) == ("benched", 1, 16)
    assert node["engines"]["mock"] == node["code"]
    assert node["cores"] == os.cpu_count()


def test_prompts_that_were_sent_before_come_from_the_cache_and_that_is_told(it: Cluster) -> None:
    done = it.run("bench", "benched", *SMALL, "--tool", "builtin", "--seed", "9000", "--no-report")
    assert done.code == 0, done.out
    done = it.run("bench", "benched", *SMALL, "--tool", "builtin", "--seed", "9000", "--no-report")
    assert done.code == 1
    assert (
        "of each prompt came from a cache, which was not asked for: were prompts of seed 9000 sent before?"
        in done.out
    )
    done = it.run("bench", "benched", *SMALL, "--tool", "builtin", "--turns", "3", "--no-report")
    assert done.code == 0, done.out  # asked for


@pytest.mark.timeout(300)
def test_aiperf_measures_it(it: Cluster, tools: Path) -> None:
    done = it.run("bench", *SMALL, "--tool", "aiperf", "--", "--export-level", "records")
    assert done.code == 0, done.out + done.err
    assert "benched: mock, measured by aiperf 0.13.0" in done.out
    found = record(it)
    (point,) = found["points"]
    assert point["metrics"]["requests"] == 12
    assert point["metrics"]["output_tokens"]["avg"] == 8
    assert point["metrics"]["cached_tokens"] == 0  # the warm-up did not fill the cache with what was measured
    assert point["command"][-2:] == ["--export-level", "records"]


TRACE = """\
{"timestamp": 9000, "input_length": 600, "output_length": 4, "hash_ids": [7, 8]}
{"timestamp": 9800, "input_length": 1100, "output_length": 5, "hash_ids": [7, 9, 10]}
{"timestamp": 10400, "input_length": 600, "output_length": 6, "hash_ids": [7, 11]}
"""
SHAPES = {
    "conversations": "-c 2 --request-rate 20 --requests 6 --turns 3 --shared-prefix 200 --slo ttft=9s,itl=9s",
    "trace": "--trace trace.jsonl --trace-speed 2 --slo ttft=9s",
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("shape", SHAPES)
def test_aiperf_counts_what_the_cluster_counts(it: Cluster, tools: Path, tmp_path: Path, shape: str) -> None:
    (tmp_path / "trace.jsonl").write_text(TRACE)
    words = SHAPES[shape].replace("trace.jsonl", str(tmp_path / "trace.jsonl")).split()
    small = ["--input-tokens", "100", "--output-tokens", "8", "--warmup", "2", "--no-report"]
    done = it.run("bench", *small, *words, "--tool", "aiperf")
    assert done.code == 0, done.out + done.err
    (point,) = record(it)["points"]
    figures, before, after = point["metrics"], point["before"]["counters"], point["after"]["counters"]
    assert figures["good_requests_per_s"] == pytest.approx(figures["requests_per_s"], rel=0.05)
    file = results(it)[-1] / "point-0" / "profile_export.jsonl"
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]  # those of the warm-up, too
    measured = [line for line in lines if line["metadata"]["benchmark_phase"] == "profiling"]
    assert figures["requests"] == len(measured) == {"conversations": 6, "trace": 3}[shape]
    usage = {
        "dyno_prompt_tokens_total": "usage_prompt_tokens",
        "dyno_answer_tokens_total": "usage_completion_tokens",
        "dyno_cached_tokens_total": "usage_prompt_cache_read_tokens",
    }
    for ours, theirs in usage.items():
        moved = (total(after, ours) or 0) - (total(before, ours) or 0)
        assert moved == sum(line["metrics"][theirs]["value"] for line in lines), ours
    if shape == "conversations":
        assert figures["input_tokens"]["max"] > figures["input_tokens"]["min"] + 2 * 100
        assert figures["cached_tokens"] >= 6 * 192  # the beginning, in whole blocks of 16
    else:
        assert figures["cached_tokens"] == 2 * 512
        starts = [line["metadata"]["request_start_ns"] / 1e9 for line in measured]
        assert max(starts) - min(starts) > 0.65  # never early; how late is up to the machine


@pytest.mark.timeout(300)
def test_genai_perf_measures_it(it: Cluster, tools: Path) -> None:
    libc = ["--libc", str(tools / "libc")]
    shape = ["--shared-prefix", "200", "--slo", "ttft=9s,itl=9s,latency=9s"]
    done = it.run("bench", *SMALL, *shape, "--tool", "genai-perf", *libc)
    assert done.code == 0, done.out + done.err
    assert "benched: mock, measured by genai-perf 0.0.16" in done.out
    (point,) = record(it)["points"]
    assert point["metrics"]["requests"] == 12
    assert point["metrics"]["output_tokens"]["avg"] == 8
    assert point["metrics"]["good_requests_per_s"] == pytest.approx(point["metrics"]["requests_per_s"])
    assert point["metrics"]["cached_tokens"] >= 8 * 192  # all but the first ones
    refused = it.run("bench", "compare", *(path.name for path in results(it)[-2:]))
    assert refused.code == 1
    assert "tools send and count in ways of their own, so their figures cannot be compared" in refused.err


def results(it: Cluster) -> list[Path]:
    return sorted((Path(it.env["DYNOCTL_HOME"]) / "bench" / "results").iterdir())


def test_a_worker_that_dies_during_the_run(it: Cluster) -> None:
    pid = it.pids()["decode-0"]
    long = ["--input-tokens", "100", "--output-tokens", "300", "--requests", "300", "-c", "4"]
    with it.popen("bench", *long, "--tool", "builtin", "--no-report") as process:
        try:
            assert process.stderr is not None
            next(line for line in process.stderr if line == "concurrency 4: started\n")
            threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
            out, err = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 1, out + err
    assert "INVALID: these figures must not be believed\n" in out
    assert "local/decode-0 was " in out  # restarted by then, or still gone


def test_workers_that_return_nothing(it: Cluster) -> None:
    it.run("up", str(it.file))
    text = it.file.read_text()
    it.file.write_text(text.replace("speedup: 20", "speedup: 20, faults: {silent_every: 1}"))
    changed = it.run("up", str(it.file), "--yes")
    # A worker that says nothing cannot even be proven.
    assert changed.code == 1
    assert "the output is empty" in changed.err
    done = it.run("bench", *SMALL, "--tool", "builtin", "--no-report")
    assert done.code == 1
    assert "INVALID: these figures must not be believed\n  12 of 12 answers had no token\n" in done.out
    it.file.write_text(text)


def test_a_cluster_that_is_down(it: Cluster) -> None:
    assert it.run("down", "benched").code == 0
    done = it.run("bench", str(it.file))
    assert (done.code, done.err) == (
        1,
        f"error: benched does not run, so there is nothing to measure\nnext: dynoctl up {it.file}\n",
    )

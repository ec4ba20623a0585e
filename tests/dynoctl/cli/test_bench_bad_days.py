"""`dynoctl bench` on bad days: nobody reads, Ctrl-C, a tool that breaks, and keys that stay secret."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynoctl.bench import aiperf
from dynoctl.probe.bench import http
from dynoctl.probe.bench.environment import Environment
from tests.dynoctl.cli.conftest import Dynoctl
from tests.dynoctl.probe.bench.server import Server, serving

GOLDEN = Path(__file__).parents[2] / "golden" / "bench" / "aiperf"
SMALL = ["--input-tokens", "40", "--output-tokens", "4", "--requests", "4", "--warmup", "2", "--no-report"]
BUILTIN = [*SMALL, "--tool", "builtin"]
KEY = "sk-0123456789"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as one:
        one.delay_s, one.gap_s = 0.02, 0.005
        yield one


def record(home: Path) -> Any:
    (folder,) = (home / "bench" / "results").glob("*")
    return json.loads((folder / "record.json").read_bytes())


@pytest.fixture
def fake(home: Path, tmp_path: Path) -> Any:
    """A program in the place of aiperf's; `$out` is its folder, `$point` that folder's name."""

    def put(body: str) -> list[str]:
        environment = Environment(home / "bench" / "envs", "aiperf", (aiperf.REQUIREMENT,))
        program = Path(environment.program("aiperf"))
        program.parent.mkdir(parents=True)
        find = 'for word; do [ "$last" != --artifact-dir ] || out=$word; last=$word; done; point=${out##*/}'
        program.write_text(f"#!/bin/sh\n{find}\n{body}\n")
        program.chmod(0o755)
        (environment.folder / ".complete").touch()
        (tmp_path / "tokenizer.json").write_text("{}")
        # Half of the prompts in those files came from a cache.
        return [*SMALL, "--tool", "aiperf", "--tokenizer", str(tmp_path), "--shared-prefix", "32"]

    return put


@pytest.mark.parametrize(("how", "code"), [("good", 0), ("empty", 1), ("none", 2)])
def test_nobody_reads_what_it_prints(server: Server, home: Path, how: str, code: int) -> None:
    server.how = how
    server.models = [] if how == "none" else server.models
    ours, theirs = os.pipe()
    os.close(ours)
    command = [sys.executable, "-m", "dynoctl", "bench", "--url", server.url, *BUILTIN, "--json"]
    done = subprocess.run(
        command,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "DYNOCTL_HOME": str(home)},
        check=False,
    )
    os.close(theirs)
    assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr
    if how != "none":
        assert record(home)["valid"] == (code == 0)


def test_ctrl_c_between_two_points(
    server: Server, dynoctl: Dynoctl, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    counted = http.counted

    def pressed(url: str) -> dict[str, float]:
        looks.append(url)
        if len(looks) == 3:  # before it, behind its warm-up, behind it
            os.kill(os.getpid(), signal.SIGINT)
        return counted(url)

    monkeypatch.setattr(http, "counted", pressed)
    done = dynoctl("bench", "--url", server.url, *BUILTIN, "-c", "1,2,4")
    assert done.code == 130
    assert done.out.count("INVALID") == 1
    said = ["it was interrupted", "only 1 of 3 points were measured"]
    assert f"INVALID: these figures must not be believed\n  {said[0]}\n  {said[1]}\n" in done.out
    found = record(home)
    assert (found["valid"], found["reasons"], len(found["points"])) == (False, said, 1)


@pytest.mark.parametrize("tool", ["builtin", "aiperf"])
def test_ctrl_c_while_it_is_looked_at_before_a_point(
    server: Server, dynoctl: Dynoctl, home: Path, fake: Any, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    """It is heard before the whole point is measured, also where that is the last one."""
    words = BUILTIN if tool == "builtin" else fake("sleep 60")
    looks: list[str] = []
    counted = http.counted

    def pressed(url: str) -> dict[str, float]:
        looks.append(url)
        if len(looks) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return counted(url)

    monkeypatch.setattr(http, "counted", pressed)
    done = dynoctl("bench", "--url", server.url, *words, "--requests", "2000", "--timeout", "20")
    assert done.code == 130, done.out + done.err
    assert len(server.asked) < 100


def test_a_tool_that_breaks_in_a_later_point(server: Server, dynoctl: Dynoctl, home: Path, fake: Any) -> None:
    words = fake(f"[ $point = point-0 ] || {{ echo 'Bang: broke'; exit 3; }}\ncp {GOLDEN}/* $out/")
    done = dynoctl("bench", "--url", server.url, *words, "-c", "2,3,4")
    assert done.code == 1
    why = "only 1 of 3 points were measured: aiperf 0.13.0 ended with exit code 3"
    assert f"INVALID: these figures must not be believed\n  {why}\n" in done.out
    assert "error: aiperf 0.13.0 ended with exit code 3\n  Bang: broke\n" in done.err
    found = record(home)
    assert (found["valid"], found["reasons"], len(found["points"])) == (False, [why], 1)
    assert dynoctl("bench", "show").code == 1
    done = dynoctl("bench", "--url", server.url, *words, "-c", "2,3,4", "--json")
    assert (done.code, done.json["reasons"]) == (1, [why])  # one document, not another one for the error
    assert "error: aiperf 0.13.0 ended with exit code 3\n" in done.err


def test_each_point_is_kept_as_soon_as_it_is_measured(
    server: Server, dynoctl: Dynoctl, home: Path, fake: Any
) -> None:
    """What a run that is killed leaves is one that is not whole."""
    words = fake(
        f'cp {GOLDEN}/* $out/\n[ $point = point-0 ] || cp "${{out%/*}}"/record.json {home}/then.json'
    )
    done = dynoctl("bench", "--url", server.url, *words, "-c", "2,3")
    assert done.code == 0, done.out + done.err
    then = json.loads((home / "then.json").read_bytes())
    assert (then["valid"], then["reasons"]) == (False, ["only 1 of 2 points were measured"])
    assert record(home)["valid"]


@pytest.mark.parametrize("fails", ["", "echo 'Bang'; exit 3"])
def test_keys_are_in_nothing_that_is_kept_or_shown(
    server: Server, dynoctl: Dynoctl, home: Path, fake: Any, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    says = f'shift $(($# - 4)); echo "$@"; echo "$@" > $out/inputs.json; cp {GOLDEN}/* $out/'
    words = [*fake(f"{says}\n{fails}"), "--report"]
    typed = ["bench", "--url", server.url, *words, "--", "--api-key", KEY, "--header", f"X-Token: a{KEY}"]
    monkeypatch.setattr(sys, "argv", ["dynoctl", *typed])
    done = dynoctl(*typed)
    assert done.code == (1 if fails else 0), done.out + done.err
    files = [path for path in (home / "bench" / "results").rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert KEY not in done.out + done.err
    if fails:
        assert "--api-key *** --header X-Token: ***" in done.err
        return
    found = record(home)
    assert found["command"][-4:] == ["--api-key", "***", "--header", "X-Token: ***"]
    assert found["points"][0]["command"][-4:] == ["--api-key", "***", "--header", "X-Token: ***"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            "http://me:hush-hush@h:1",
            "--url has a user or a password in it, which everybody who lists processes can see\n"
            "next: the same without it; a server's key goes into the environment, as OPENAI_API_KEY\n",
        ),
        ("http://h:1/v1?key=x#y", "--url http://h:1/v1 must end there, without ? and #\n"),
    ],
)
def test_urls_with_more_in_them(dynoctl: Dynoctl, home: Path, typed: str, said: str) -> None:
    done = dynoctl("bench", "--url", typed, *BUILTIN)
    assert (done.code, done.out, done.err) == (2, "", f"error: {said}")


def test_a_folder_of_the_user_keeps_what_is_in_it(
    server: Server, dynoctl: Dynoctl, home: Path, tmp_path: Path
) -> None:
    given = tmp_path / "given"
    (given / "point-0").mkdir(parents=True)
    (given / "mine").mkdir()
    done = dynoctl("bench", "--url", server.url, *BUILTIN, "--output", str(given), "--", "--foo")
    assert done.code == 2
    assert sorted(path.name for path in given.iterdir()) == ["mine", "point-0"]
    done = dynoctl("bench", "--url", server.url, *BUILTIN, "--output", str(tmp_path / "made"), "--", "--foo")
    assert not (tmp_path / "made").exists()


def test_hits_behind_a_long_warm_up(server: Server, dynoctl: Dynoctl, home: Path) -> None:
    """The server alone tells of them, and the warm-up had none."""
    server.hits_after, server.delay_s = 60, 0.0
    done = dynoctl("bench", "--url", server.url, *BUILTIN, "--warmup", "60", "--json")
    assert (done.code, done.json["reasons"]) == (
        1,
        [
            "100% of each prompt came from a cache, which was not asked for: were prompts of seed 123 sent before?"
        ],
    )
    assert done.json["points"][0]["metrics"]["cached_tokens"] == 4 * 16


def test_counters_that_did_not_answer_behind_the_warm_up_are_those_before_it(
    server: Server, dynoctl: Dynoctl, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not none at all: what the server ever had in its cache is not what this run had."""
    server.hits_after = 0
    assert dynoctl("bench", "--url", server.url, *BUILTIN, "--allow-invalid", "--requests", "40").code == 0
    server.hits_after = len(server.asked)  # so many were hits, and from now on none is
    looks: list[str] = []
    base = {"vllm:prefix_cache_queries_total": 1000.0, "vllm:prefix_cache_hits_total": 1000.0}

    def counted(url: str) -> dict[str, float]:
        looks.append(url)
        more = {"vllm:prefix_cache_queries_total": 1000.0 + 100 * len(looks)}
        return {} if len(looks) == 2 else {**base, **more}

    monkeypatch.setattr(http, "counted", counted)
    done = dynoctl("bench", "--url", server.url, *BUILTIN, "--json")
    assert (done.code, done.json["points"][0]["metrics"]["cached_tokens"]) == (0, 0), done.json["reasons"]


def test_no_seed_is_taken_twice_wherever_results_go(
    server: Server, dynoctl: Dynoctl, home: Path, tmp_path: Path
) -> None:
    seeds = []
    for number, more in enumerate(([], ["--seed", "500"], ["-c", "1,2"], [])):
        folder = tmp_path / str(number)
        done = dynoctl("bench", "--url", server.url, *BUILTIN, "--output", str(folder), *more, "--json")
        seeds.append([point["load"]["seed"] for point in done.json["points"]])
    assert seeds == [[123], [500], [501, 502], [503]]


def test_words_for_the_tool_that_set_the_load(server: Server, dynoctl: Dynoctl, home: Path) -> None:
    done = dynoctl("bench", "--url", server.url, *BUILTIN, "--", "--request-count", "5")
    assert (done.code, done.err) == (
        2,
        "error: --request-count behind -- would change what is measured, and neither record nor gate would know\n"
        "next: the same with dynoctl's own --requests, before the --\n",
    )

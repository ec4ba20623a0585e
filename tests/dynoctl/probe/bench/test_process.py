"""Tools of others as processes: well, broken, stuck, interrupted; and environments that cannot be made."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dynoctl.bench.load import Load
from dynoctl.bench.record import Tool
from dynoctl.errors import DynoctlError, Interrupted, UsageError
from dynoctl.probe.bench import libc
from dynoctl.probe.bench.environment import Environment
from dynoctl.probe.bench.external import Aiperf, Signs
from dynoctl.probe.bench.interrupts import ASKED, interrupts
from dynoctl.probe.bench.process import Ended, cpu_s, run
from dynoctl.probe.bench.tokens import byte_folder, counter
from dynoctl.probe.bench.tool import Job
from tests.servers import free_port

LOAD = Load(input_tokens=40, output_tokens=4, concurrency=2, requests=4, warmup=2)
GOLDEN = Path(__file__).parents[3] / "golden" / "bench"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    url = f"http://127.0.0.1:{free_port()}"
    return Job(url, "m", LOAD, tmp_path / "point-0", silence_s=1.0)


def aiperf(tmp_path: Path, body: str) -> Aiperf:
    """A program in the place of aiperf's that does this."""
    environment = Environment(tmp_path, "aiperf", ("aiperf",))
    program = Path(environment.program("aiperf"))
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\nfor last; do :; done\nout={tmp_path}/point-0\n{body}\n")
    program.chmod(0o755)
    return Aiperf(Tool(name="aiperf", version="0.13.0"), environment, tmp_path / "tokenizers")


def refused(tool: Aiperf, job: Job) -> DynoctlError:
    with pytest.raises(DynoctlError) as caught:
        tool.measure(job, lambda *_: None)
    return caught.value


def test_what_it_wrote_is_what_was_measured(tmp_path: Path, job: Job) -> None:
    tool = aiperf(tmp_path, f"cp {GOLDEN}/aiperf/* $out/")
    measured = tool.measure(job, lambda *_: None)
    assert measured.metrics.requests == 4
    assert measured.command[1:4] == ["profile", "--model", "m"]
    assert str(tmp_path / "tokenizers" / "bytes") in measured.command


def test_a_trace_begins_when_the_run_does(tmp_path: Path, job: Job) -> None:
    row = '{"timestamp": %d, "input_length": 20, "output_length": 4, "hash_ids": [1]}\n'
    (tmp_path / "mine.jsonl").write_text("".join(row % at for at in (90_500, 90_000, 91_000)))
    load = replace(LOAD, trace=str(tmp_path / "mine.jsonl"), trace_speed=2.0, requests=2, concurrency=None)
    tool = aiperf(tmp_path, f"cp {GOLDEN}/aiperf/* $out/")
    words = tool.measure(replace(job, load=load), lambda *_: None).command
    sent = Path(words[words.index("--input-file") + 1]).read_bytes().splitlines()
    assert [json.loads(line)["timestamp"] for line in sent] == [0, 250]


def test_its_progress_is_that_of_the_warm_up_first(tmp_path: Path, job: Job) -> None:
    lines = (GOLDEN / "aiperf" / "profile_export.jsonl").read_text().splitlines(keepends=True)
    told: list[tuple[bool, int, int, int]] = []
    job.folder.mkdir()
    signs = Signs(job, aiperf(tmp_path, "").done, lambda *one: told.append(one))
    for seen in (0, 1, 2, 5):
        (job.folder / "profile_export.jsonl").write_text("".join(lines[:seen]))
        signs()
    assert told == [(True, 0, 2, 0), (True, 1, 2, 0), (False, 0, 4, 0), (False, 3, 4, 0)]


def test_it_crashes(tmp_path: Path, job: Job) -> None:
    error = refused(aiperf(tmp_path, "echo Traceback; echo 'Bang: it broke'; exit 3"), job)
    assert error.message == "aiperf 0.13.0 ended with exit code 3"
    assert error.detail == ("Traceback", "Bang: it broke", f"its files are kept in {job.folder}")
    assert error.next == f"less {job.folder}/tool.log"


def test_what_went_wrong_is_found_among_its_tracebacks(tmp_path: Path, job: Job) -> None:
    lines = [
        "10:00:01.2 INFO  Starting",
        "10:00:02.3 ERROR    Bang: it broke",
        "Traceback",
        *map(str, range(9)),
    ]
    error = refused(aiperf(tmp_path, f"printf '%s\\n' {shlex.join(lines)}; exit 1"), job)
    assert error.detail == ("10:00:02.3 ERROR    Bang: it broke", f"its files are kept in {job.folder}")


def test_it_is_killed(tmp_path: Path, job: Job) -> None:
    assert refused(aiperf(tmp_path, "kill -9 $$"), job).message == "aiperf 0.13.0 ended with signal 9"


def test_it_hangs_and_nothing_of_it_is_left(tmp_path: Path, job: Job) -> None:
    error = refused(aiperf(tmp_path, f"sleep 300 & echo $! > {tmp_path}/pid; wait"), job)
    assert error.message == "aiperf 0.13.0 did nothing for 1 s and was ended"
    assert gone(int((tmp_path / "pid").read_text()))


def test_it_crashes_and_its_helpers_go_too(tmp_path: Path, job: Job) -> None:
    error = refused(aiperf(tmp_path, f"sleep 300 & echo $! > {tmp_path}/pid; exit 3"), job)
    assert error.message == "aiperf 0.13.0 ended with exit code 3"
    assert gone(int((tmp_path / "pid").read_text()))


def gone(pid: int) -> bool:
    """Whether it ends in a moment; that nobody has buried it yet does not matter."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_its_files_have_another_form(tmp_path: Path, job: Job) -> None:
    requests = "profile_export.jsonl"
    body = f"sed 's/request_latency/latency_of_request/g' {GOLDEN}/aiperf/{requests} > $out/{requests}"
    error = refused(aiperf(tmp_path, f"{body}\ncp {GOLDEN}/aiperf/*.json $out/"), job)
    assert error.message == "aiperf 0.13.0 wrote what this dynoctl cannot read: KeyError: 'request_latency'"
    assert error.detail == (f"its files are kept in {job.folder}",)
    assert (job.folder / "profile_export.jsonl").exists()


def test_it_writes_nothing(tmp_path: Path, job: Job) -> None:
    error = refused(aiperf(tmp_path, "exit 0"), job)
    assert error.message == (
        "aiperf 0.13.0 wrote what this dynoctl cannot read: there is no profile_export.jsonl"
    )


def test_errors_alone_are_a_result(tmp_path: Path, job: Job) -> None:
    measured = aiperf(tmp_path, f"cp {GOLDEN}/aiperf-errors/* $out/; exit 1").measure(job, lambda *_: None)
    assert measured.metrics.errors == {"status 404: The model 'nomodel' does not exist.": 2}


# A fake that outlives a test, because that was killed, ends itself.
WAITS = "echo up\nfor _ in $(seq 600); do sleep 0.05; done"


@pytest.fixture
def hangup() -> Iterator[None]:
    """SIGHUP is not ignored, though the tests may run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("asked", ASKED)
def test_ctrl_c_is_passed_on_and_what_was_written_is_kept(
    tmp_path: Path, job: Job, asked: signal.Signals, hangup: None
) -> None:
    tool = aiperf(tmp_path, f"trap 'cp {GOLDEN}/aiperf/* $out/; exit 130' INT\n{WAITS}")
    press_when(job.folder / "tool.log", "up", asked)
    measured = tool.measure(replace(job, silence_s=30.0), lambda *_: None)
    assert measured.interrupted
    assert len(measured.samples) == 4


def test_ctrl_c_before_anything_was_written(tmp_path: Path, job: Job) -> None:
    tool = aiperf(tmp_path, WAITS)
    press_when(job.folder / "tool.log", "up", signal.SIGINT)
    error = refused(tool, replace(job, silence_s=30.0))
    assert isinstance(error, Interrupted)
    assert error.message == "interrupted; aiperf 0.13.0 wrote no result of this point"


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        calls: list[str] = []
        with interrupts() as pressed:
            pressed.then(lambda: calls.append("asked"))
            signal.raise_signal(signal.SIGHUP)
            assert calls == []
            signal.raise_signal(signal.SIGTERM)
            assert calls == ["asked"]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def press_when(path: Path, said: str, asked: signal.Signals) -> None:
    """Ctrl-C, or another such signal, once that stands there."""

    def press() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if path.exists() and said in path.read_text():
                signal.pthread_kill(threading.main_thread().ident or 0, asked)
                return
            time.sleep(0.01)

    threading.Thread(target=press, daemon=True).start()


def test_a_busy_process_is_found(tmp_path: Path) -> None:
    busy = "import time\nend = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass"
    ended = run([sys.executable, "-c", busy], tmp_path, os.environ, lambda: 0, 60.0)
    share = ended.busiest((ended.cpu[0][0], ended.cpu[-1][0]))
    assert share is not None
    assert share > 0.05  # others may have the cores
    assert (
        Ended(0, cpu=[(0, {1: 0.0}), (10**9, {1: 0.3}), (2 * 10**9, {1: 1.9, 2: 0.1})]).busiest(
            (0, 2 * 10**9)
        )
        == 0.95
    )
    assert Ended(0).busiest((0, 1)) is None


def test_a_process_that_polls_says_nothing_of_how_busy_a_tool_is() -> None:
    own, name = os.getpid(), Path("/proc/self/comm").read_text().strip()
    assert own in cpu_s(own)
    assert own not in cpu_s(own, name)
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        try:
            assert child.pid in cpu_s(own, name)
        finally:
            child.kill()


def test_an_environment_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    environment = Environment(tmp_path / "envs", "aiperf", ("aiperf==0.13.0",))
    said: list[str] = []
    with pytest.raises(DynoctlError) as caught:
        environment.ensure(said.append)
    assert caught.value.message == "aiperf could not be installed: python ended with exit code 1"
    assert any("No matching distribution found for aiperf==0.13.0" in line for line in caught.value.detail)
    assert caught.value.next == (
        "the same once the package index answers, or with --tool builtin, which needs nothing"
    )
    assert said == [f"installing aiperf==0.13.0 into {environment.folder} (once)"]
    assert not environment.whole


def test_an_environment_that_is_there_is_used(tmp_path: Path) -> None:
    environment = Environment(tmp_path, "none", ("nosuch",))
    environment.folder.mkdir()
    (environment.folder / ".complete").touch()
    environment.ensure(pytest.fail)
    assert Environment(tmp_path, "none", ("nosuch>1",)).folder != environment.folder


def test_c_libraries_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        libc.launcher(tmp_path, Path("/bin/true"), tmp_path / "bin" / "x")
    assert caught.value.message == (
        f"--libc {tmp_path}: there is no libc.so.6, libstdc++.so.6, libgcc_s.so.1, libz.so.1, libssl.so.3, "
        "libcrypto.so.3, libzstd.so.1 in it"
    )


def test_the_tokenizer_of_bytes(tmp_path: Path) -> None:
    folder = byte_folder(tmp_path)
    assert byte_folder(tmp_path) == folder
    for text in ("plain", "Grüße, 世界\n", " "):
        assert counter(folder)(text) == len(text.encode())

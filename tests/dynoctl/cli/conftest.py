"""Fixtures of the verbs: dynoctl in this process with a home of its own, and whole clusters on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dynoctl.__main__ import run
from tests.dynoctl.cli.cluster import SMALL, Cluster, Done

Dynoctl = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where dynoctl keeps what it knows."""
    path = tmp_path / "home"
    monkeypatch.setenv("DYNOCTL_HOME", str(path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("DYNOCTL_AS", raising=False)
    return path


@pytest.fixture
def dynoctl(home: Path, capsys: pytest.CaptureFixture[str]) -> Dynoctl:
    """Run one command line in this process."""

    def call(*argv: str) -> Done:
        capsys.readouterr()
        code = run(list(argv))
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A small cluster of one test; down at its end."""
    with tempfile.TemporaryDirectory(prefix="dyno-cli-", ignore_cleanup_errors=True) as folder:
        made = Cluster(Path(folder), "one", SMALL)
        yield made
        made.end()

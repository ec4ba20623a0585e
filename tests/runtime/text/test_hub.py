"""Where a model's folder is: a path, or a name of the hub in this node's cache. No hub is asked here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dyno_runtime.text.hub import model_folder
from tests.models import make_model

ASK = "import sys; from dyno_runtime.text.hub import model_folder; print(model_folder(sys.argv[1]))"


def asked(home: Path, name: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: that library reads its environment when it is imported."""
    env = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([sys.executable, "-c", ASK, name], env=env, capture_output=True, text=True)


def test_a_path_is_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    assert (model_folder("/models/m"), model_folder("~/m")) == (Path("/models/m"), Path("/home/u/m"))


def test_a_name_is_looked_up_in_the_cache(tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "models--org--m"
    folder = make_model(cached / "snapshots" / ("a" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    assert asked(tmp_path, "org/m").stdout == f"{folder}\n"
    refused = asked(tmp_path, "org/other")
    assert "BadModelFolder: org/other cannot be had from the Hugging Face hub: " in refused.stderr

"""schemathesis against our own /openapi.json: no 5xx, and every answer is one that the document describes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOOKS = {"SCHEMATHESIS_HOOKS": "tests.clients.schema_hooks"}
# What a schema cannot say, rules between two fields and what an engine can do, is refused though it is valid.
BUT = "positive_data_acceptance"


@pytest.mark.parametrize(("mode", "phases"), [("all", "coverage,fuzzing"), ("positive", "fuzzing")])
def test_no_request_is_a_server_error(base_url: str, tmp_path: Path, mode: str, phases: str) -> None:
    url = base_url.removesuffix("/v1")
    before = answered(url)
    what = ["--checks", "all", "--exclude-checks", BUT]
    what += ["--phases", phases, "--mode", mode, "--request-timeout", "30"]
    how = ["--max-examples", "60", "--seed", "1", "--generation-database", "none"]
    done = subprocess.run(
        [Path(sys.executable).parent / "schemathesis", "run", f"{url}/openapi.json", *what, *how],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(HOOKS if mode == "positive" else {})},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    cases = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert cases is not None, done.stdout[-2000:]
    assert int(cases[1]) == int(cases[2]) >= (1000 if mode == "all" else 100)
    if mode == "positive":
        assert answered(url) - before >= 30, "too few got as far as an engine"


def answered(url: str) -> int:
    """How many requests were answered with a 200."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        found = re.search(r'dyno_requests_total\{status="200"\} (\d+)', answer.read().decode())
    return int(found[1]) if found else 0

"""Benchmarks of serving, as docs/performance.md calls them, only smaller: that they run, and count right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.servers import free_port, http_get, wait_for


def run(*words: str) -> str:
    """What a benchmark prints."""
    command = [sys.executable, "-m", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_idle_connections_and_many_streams():
    said = run("benchmarks.connections", "--idle", "40", "--streams", "60", "--tokens", "5")
    assert "| idle connections: 40 |" in said
    assert "| streams at once: 60 | 60 whole, 0 failed |" in said


def test_what_bench_adds():
    said = run("benchmarks.bench_overhead", "--tools", "builtin", "--rounds", "1", "--port", str(free_port()))
    (row,) = [line for line in said.splitlines() if line.startswith("| builtin |")]
    both, alone, above, cpu = map(float, row.split("|")[2:6])
    assert abs(both - alone - above) < 0.02
    assert 0 < cpu < both


def test_any_openai_server_is_measured(tmp_path: Path):
    port, lines = free_port(), tmp_path / "lines"
    engine = subprocess.Popen([sys.executable, "-m", "benchmarks.bare_engine", str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: http_get(f"{url}/health") is not None, "the bare engine answers")
        run(
            "benchmarks.serve", "--url", url, "--pids", f"worker={engine.pid}", "--seconds", "0.3",
            "--only", "128", "--clients", "8", "--json", str(lines),
        )  # fmt: skip
    finally:
        engine.kill()
        engine.wait()
    (figures,) = map(json.loads, lines.read_text().splitlines())
    assert figures["failed"] == 0
    assert figures["tokens_per_s"] > 0
    # A token each, and each event one token.
    assert 0.9 < figures["tokens_per_event"] < 1.1
    assert figures["cpu_us_per_token"]["worker"] > 0

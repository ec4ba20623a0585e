"""What the README says is true: its commands run in a fresh clone with a clean environment, its files are valid.

In: README.md. Out: the very lines in it, executed in their order; only ports and package index are the test's own.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dynoctl.cli.app import app
from dynoctl.topology.load import parse

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(heading: str) -> list[str]:
    """The indented blocks of a section, each as it is to be typed."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?m)(?:^ {4}.*\n|^\n(?= {4}))+", section)
    return [re.sub(r"(?m)^ {4}", "", block).strip("\n") for block in found]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The last commit in an empty directory. Packages come from wheels that `scripts/test` has fetched."""
    place = tmp_path / "dynoctl"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(place)], check=True)
    return place


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home with nothing in it, and no variable that an ordinary login does not have."""
    path = [sys.base_prefix + "/bin", "/usr/local/bin", "/usr/bin", "/bin"]
    kind = [str(ROOT / "scripts" / "test-wheels"), "path", "clone"]
    wheels = Path(subprocess.run(kind, capture_output=True, text=True, check=True).stdout.strip())
    if not wheels.is_dir():
        reason = f"there are no wheels in {wheels}; get them with: scripts/test-wheels"
        (pytest.fail if os.environ.get("DYNO_REQUIRE_LAB") == "1" else pytest.skip)(reason)
    home = tmp_path / "home"
    home.mkdir()
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    return {"HOME": str(home), "PATH": ":".join(path), "LANG": "C.UTF-8", **offline}


@pytest.mark.timeout(300)
def test_the_first_two_minutes(clone: Path, environment: dict[str, str]) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8000)) == 0:
            pytest.skip("port 8000, which the README's example uses, is taken on this machine")

    def type_in(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", line],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    up, *rest = blocks("Try it on this machine")
    started = type_in(up)
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        assert re.search(r"is up: 6 units on 1 node, generation 1, in \d+\.\d s\.", started.stdout)
        assert "next     scripts/dynoctl status local  |" in started.stdout
        curl, status, down = "\n".join(rest).splitlines()
        told = type_in(curl).stdout
        assert '"object":"chat.completion.chunk"' in told
        assert told.endswith("data: [DONE]\n\n")
        assert "local serves (generation 1)" in type_in(status).stdout
        ended = type_in(down)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "local is down: nothing of it is left on 1 node" in ended.stdout
    finally:
        type_in("scripts/dynoctl down local")


def test_ci_calls_the_test_command() -> None:
    assert blocks("Test it") == ["scripts/test"]
    assert "\nexec scripts/test\n" in (ROOT / ".ci" / "run").read_text()


def test_the_topology_is_valid() -> None:
    (text,) = blocks("Use it on your nodes")
    assert parse(text, "README.md").name == "hello-disagg"


def test_every_verb_is_in_the_table_and_every_link_leads_somewhere() -> None:
    verbs = {one.name or one.callback.__name__ for one in app.registered_commands if one.callback}
    verbs |= {str(group.name) for group in app.registered_groups}
    assert set(re.findall(r"(?m)^\| `dynoctl (\w+)", README)) == verbs
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link

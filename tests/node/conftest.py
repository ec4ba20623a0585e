"""Fixtures for the node program: the packed file, and a node whose units all end with the test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyno_node.pack import pack
from tests.node.program import PYTHON, Program

NOBODY = 65534


@pytest.fixture(scope="session")
def pyz() -> Iterator[Path]:
    """The node program, packed. In a folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="dyno-node-") as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "node.pyz"
        path.write_bytes(pack())
        yield path


@pytest.fixture
def program(pyz: Path, tmp_path: Path) -> Iterator[Program]:
    """A node, run by whoever runs the tests."""
    program = Program(pyz, tmp_path)
    yield program
    program.end()


@pytest.fixture
def plain(pyz: Path) -> Iterator[Program]:
    """A node whose user may make no cgroup: nobody where the tests run as root, else whoever runs them."""
    root = Path(tempfile.mkdtemp(prefix="dyno-plain-"))
    user = NOBODY if os.getuid() == 0 else None
    program = Program(pyz, root, PYTHON, user)
    yield program
    program.end()
    shutil.rmtree(root)

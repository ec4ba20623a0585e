"""Putting files in place: the script, and its failures in words."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from dynoctl.errors import CommandFailed
from dynoctl.remote import placing
from dynoctl.remote.connection import Completed
from dynoctl.remote.local import LocalConnection


def test_a_file_of_which_a_part_arrived_is_not_put_in_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    script = placing.script(str(path), mode=0o600, size_bytes=10)
    done = LocalConnection("n1").run(script, stdin=b"12345", timeout_s=20)
    assert (done.status, done.err) == (1, b"only 5 of 10 bytes arrived\n")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("said", "why", "look"),
    [
        ("cat: write error: No space left on device", "the disk is full", "df -h"),
        ("cat: write error: Disk quota exceeded", "the disk quota is used up", "df -h"),
        (
            "mkdir: cannot create directory '/x': Read-only file system",
            "the file system is read-only",
            "ls -ld",
        ),
        ("mkdir: cannot create directory '/x': Permission denied", "permission denied", "ls -ld"),
        ("cat: write error: Input/output error", "the disk reports an input/output error", "ls -ld"),
        ("something new", "something new", "ls -ld"),
    ],
)
def test_what_the_node_says_becomes_a_sentence(said: str, why: str, look: str) -> None:
    done = Completed(1, b"", f"{said}\n".encode())
    error = placing.refused("n1", "~/some where/file", done, login="ssh me@n1")
    assert isinstance(error, CommandFailed)
    assert error.message == f"n1: cannot write ~/some where/file: {why}"
    assert error.detail == (said,)
    assert error.next == f"""ssh me@n1 '{look} "$HOME"/'"'"'some where'"'"''"""


def test_silence_is_told_by_its_status() -> None:
    error = placing.refused("n1", "/x/file", Completed(137, b"", b""), login="")
    assert error.message == "n1: cannot write /x/file: the shell ended with status 137"
    assert error.next == "ls -ld /x"


def test_a_failed_write_here_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(CommandFailed) as caught:
            LocalConnection("n1").put(bytes(20_000), f"{tmp_path}/file", mode=0o600, timeout_s=20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.message == f"n1: cannot write {tmp_path}/file: the file is larger than allowed there"
    assert list(tmp_path.iterdir()) == []

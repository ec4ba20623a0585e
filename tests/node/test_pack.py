"""The packed program: the same bytes everywhere, and runnable alone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

import dyno_node
from dyno_node.pack import digest, pack
from tests.node.program import PYTHON


def test_bytes_depend_on_content_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first = pack()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    os.utime(Path(dyno_node.__path__[0]) / "__main__.py")
    assert pack() == first
    assert len(digest(first)) == 16
    assert digest(first) != digest(first + b"x")


def test_it_holds_all_modules_but_the_packer() -> None:
    with zipfile.ZipFile(io.BytesIO(pack())) as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    modules = {path.name for path in Path(dyno_node.__path__[0]).glob("*.py")} - {"pack.py"}
    assert set(names) == {"__main__.py", *(f"dyno_node/{name}" for name in modules)}


@pytest.mark.parametrize(
    ("argv", "text", "error"),
    [
        (["ask"], "{", "standard input is not one JSON document: "),
        (["ask"], "[]", "the document on standard input is not an object"),
        (["ask"], "{}", "url must be a text"),
        (["fly"], "{}", "usage: VERB, one of start, stop, look, "),
        ([], "{}", "usage: VERB, one of start, stop, look, "),
        (["watch"], '{"units": [], "until": "noon"}', "until is 'noon', not one of listening, "),
        (["watch"], '{"units": "a"}', "units must be a list of texts"),
        (["stop"], '{"unit_dir": "/x", "grace_s": -1}', "grace_s must be a number, 0 or more"),
        (["await"], '{"services": [{"kind": "redis"}]}', "kind is 'redis', not nats or etcd"),
        (["await"], '{"services": 1}', "services must be a list of objects"),
        (["sweep"], '{"cluster": "a", "node": "b", "ports": ["x"]}', "ports must be a list of whole numbers"),
    ],
)
def test_bad_input_ends_with_status_2_and_a_sentence(
    pyz: Path, argv: list[str], text: str, error: str
) -> None:
    command = [PYTHON, "-I", str(pyz), *argv]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    answer = json.loads(done.stdout)
    assert answer["ok"] is False
    assert answer["error"].startswith(error)

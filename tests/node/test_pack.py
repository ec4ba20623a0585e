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


def test_its_name_depends_on_the_sources_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first, name = pack(), digest()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    os.utime(Path(dyno_node.__path__[0]) / "__main__.py")
    assert (pack(), digest()) == (first, name)
    assert len(name) == 16
    monkeypatch.setattr("importlib.util.MAGIC_NUMBER", b"\x00\x00\r\n")  # another Python
    assert digest() == name
    monkeypatch.setattr("dyno_node.pack._MAIN", b"raise SystemExit")
    assert digest() != name


def test_it_holds_all_modules_but_the_packer_and_what_this_python_makes_of_them() -> None:
    with zipfile.ZipFile(io.BytesIO(pack())) as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    modules = {path.name for path in Path(dyno_node.__path__[0]).glob("*.py")} - {"pack.py"}
    sources = {f"dyno_node/{name}" for name in modules}
    assert set(names) == {"__main__.py", *sources, *(f"{name}c" for name in sources)}


def test_a_python_of_another_release_takes_the_sources(tmp_path: Path, pyz: Path) -> None:
    """What was compiled for another Python is passed over, whatever is in it; what fits is what runs."""
    ask = '{"url": "http://127.0.0.1:9"}'
    for magic, status in ((b"\x00\x00\r\n", 0), (None, 1)):
        spoilt = tmp_path / "spoilt.pyz"
        with zipfile.ZipFile(pyz) as source, zipfile.ZipFile(spoilt, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                target.writestr(
                    name, (magic or content[:4]) + content[4:16] if name.endswith(".pyc") else content
                )
        command = [PYTHON, "-I", str(spoilt), "ask"]
        done = subprocess.run(command, input=ask, capture_output=True, text=True, check=False)
        assert (done.returncode, bool(done.stdout)) == (status, status == 0), done.stderr


@pytest.mark.parametrize(
    ("argv", "text", "error"),
    [
        (["ask"], "{", "standard input is not one JSON document: "),
        (["ask"], "[]", "the document on standard input is not an object"),
        (["ask"], "{}", "url must be a text"),
        (["fly"], "{}", "usage: VERB, one of start, stop, watch, "),
        ([], "{}", "usage: VERB, one of start, stop, watch, "),
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

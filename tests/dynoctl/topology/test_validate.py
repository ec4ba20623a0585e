"""`dynoctl validate`, `dynoctl schema`, and the reading of files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dynoctl.cli.files import read_topology
from dynoctl.cli.schema import schema
from dynoctl.cli.validate import validate
from dynoctl.errors import Exit, TopologyError, UsageError

ROOT = Path(__file__).parents[3]
GOOD = "name: x\nmodel: {id: m}\nengine: {kind: hello}\nroles: {frontend: {}, decode: {replicas: 2}}\n"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


def test_a_valid_file_in_one_line(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(str(good), []) == Exit.DONE
    expected = f"{good} is valid: 1 node, 5 units: etcd, nats, 1 frontend, 2 decode\n"
    assert capsys.readouterr().out == expected


def test_a_valid_file_as_json(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(str(good), [], json=True) == Exit.DONE
    assert json.loads(capsys.readouterr().out) == {"valid": True, "problems": []}


def test_an_invalid_file_raises_with_every_problem(good: Path) -> None:
    with pytest.raises(TopologyError, match=r"good\.yaml is not a valid topology: one problem$") as caught:
        validate(str(good), ["roles.decode.tpp=1"])
    assert caught.value.detail == (
        "--set roles.decode.tpp=1: roles.decode.tpp: unknown key",
        "    did you mean 'tp'?",
    )
    assert caught.value.exit == Exit.USAGE


def test_an_invalid_file_as_json(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good.write_text(GOOD.replace("replicas: 2", "replicas: two"))
    assert validate(str(good), [], json=True) == Exit.USAGE
    problem = {
        "file": str(good),
        "line": 4,
        "column": 42,
        "path": "roles.decode.replicas",
        "message": "expected a whole number from 1 to 1024, found 'two'",
        "hint": None,
    }
    assert json.loads(capsys.readouterr().out) == {"valid": False, "problems": [problem]}


def test_overrides_are_part_of_what_is_validated(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(str(good), ["roles.decode.replicas=3"]) == Exit.DONE
    assert capsys.readouterr().out.endswith("1 frontend, 3 decode\n")


def test_schema_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema() == Exit.DONE
    assert json.loads(capsys.readouterr().out)["title"] == "A dynoctl topology"


def refused(path: object) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read_topology(str(path))
    assert caught.value.exit == Exit.USAGE
    return caught.value


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    error = refused(tmp_path / "deep" / "none.yaml")
    assert str(error) == f"there is no file {tmp_path}/deep/none.yaml"
    assert error.next == f"ls {tmp_path}/*.yaml"


def test_a_folder(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert str(error) == f"{tmp_path} is a folder; dynoctl reads one YAML file"
    assert error.next == f"ls {tmp_path}/*.yaml"


def test_a_pipe_does_not_hold_us(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert str(refused(tmp_path / "pipe")) == f"{tmp_path}/pipe is no plain file; dynoctl reads one YAML file"


def test_a_file_below_a_file(good: Path) -> None:
    assert str(refused(good / "x.yaml")) == f"{good}/x.yaml cannot be read: Not a directory"


def test_a_name_that_no_file_has() -> None:
    assert str(refused("a\0b")) == "'a\\x00b' cannot be read: embedded null byte"


def test_a_file_that_is_far_too_big(tmp_path: Path) -> None:
    with (tmp_path / "big.yaml").open("wb") as file:
        file.truncate(3_000_000)
    expected = f"{tmp_path}/big.yaml has 3,000,000 bytes, which is no topology (at most 2,000,000)"
    assert str(refused(tmp_path / "big.yaml")) == expected


def test_a_file_that_may_not_be_read(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", no)  # root may read everything, so chmod would prove nothing
    error = refused(good)
    assert str(error) == f"{good} may not be read by this user"
    assert error.next == f"ls -l {good}"

"""The lease: taken by one, renewed by the same, run out by the node's clock, broken only by who names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dyno_node import clock
from dyno_node.lease import lease
from dyno_node.request import BadRequest
from tests.node.program import Program

ADA = {"who": "ada", "host": "laptop"}
BOB = {"who": "bob", "host": "server"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "locks" / "c"


def do(path: Path, what: str, token: str, **more: Any) -> dict[str, Any]:
    return lease({"do": what, "path": str(path), "token": token, "ttl_s": 60, "holder": ADA, **more})


def test_one_takes_it_and_the_other_is_told_who_has_it(path: Path) -> None:
    assert do(path, "take", "a") == {"ok": True}
    answer = do(path, "take", "b", holder=BOB)
    assert (answer["ok"], answer["holder"]["who"], answer["holder"]["token"]) == (False, "ada", "a")
    assert 0 < answer["left_s"] <= 60


def test_what_is_kept_is_nobody_elses_to_read(path: Path) -> None:
    do(path, "take", "a")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    found = json.loads(path.read_text())
    assert found["boot_id"] == clock.boot_id()
    assert clock.uptime_s() < found["until_s"] <= clock.uptime_s() + 60


def test_taking_again_and_renewing_are_for_who_has_it(path: Path) -> None:
    assert do(path, "take", "a") == {"ok": True}
    assert do(path, "take", "a") == {"ok": True}
    assert do(path, "renew", "a") == {"ok": True}
    assert do(path, "renew", "b")["ok"] is False


def test_released_it_is_free(path: Path) -> None:
    do(path, "take", "a")
    assert do(path, "release", "b") == {"ok": True}  # not his: nothing happens
    assert do(path, "take", "b")["ok"] is False
    assert do(path, "release", "a") == {"ok": True}
    assert not path.exists()
    assert do(path, "take", "b") == {"ok": True}


def test_it_runs_out(path: Path) -> None:
    do(path, "take", "a", ttl_s=0)
    assert do(path, "renew", "a") == {"ok": False, "holder": None, "left_s": 0.0}
    assert do(path, "take", "b") == {"ok": True}


def test_another_boot_ends_it(path: Path) -> None:
    do(path, "take", "a")
    path.write_text(path.read_text().replace(clock.boot_id(), "before"))
    assert do(path, "take", "b") == {"ok": True}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"boot_id": "BOOT", "until_s": "soon"}', '{"boot_id": "BOOT"}']
)
def test_what_a_power_loss_tore_holds_nobody(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text.replace("BOOT", clock.boot_id()))
    assert do(path, "take", "b") == {"ok": True}


def test_a_dead_holder_is_replaced_by_name_only(path: Path) -> None:
    do(path, "take", "a")
    assert do(path, "take", "b", instead_of="other")["ok"] is False
    assert do(path, "take", "b", instead_of="a") == {"ok": True}
    assert do(path, "take", "c", instead_of="a")["holder"]["token"] == "b"  # somebody was faster


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"do": "steal"}, "do is 'steal', not take, renew or release"),
        ({"do": "take", "holder": "me"}, "holder must be an object"),
        ({"do": "take", "token": 7}, "token must be a text"),
        ({"do": "take", "ttl_s": -1}, "ttl_s must be a number, 0 or more"),
    ],
)
def test_bad_requests(path: Path, request_: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        lease({"path": str(path), "token": "a", "ttl_s": 1, "holder": {}, **request_})
    assert str(caught.value) == sentence


def test_a_folder_that_cannot_be_written_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert do(tmp_path / "file" / "c", "take", "a") == {
        "ok": False,
        "error": f"{tmp_path}/file/c: file exists",
    }


def test_of_many_at_once_one_has_it(path: Path, program: Program) -> None:
    asked = [
        program.popen(
            "lease", {"do": "take", "path": str(path), "token": f"t{number}", "ttl_s": 60, "holder": BOB}
        )
        for number in range(8)
    ]
    answers = [json.loads(each.communicate(timeout=30)[0]) for each in asked]
    assert sum(answer["ok"] for answer in answers) == 1
    assert sorted(each.name for each in path.parent.iterdir()) == ["c"]

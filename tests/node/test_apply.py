"""Actions of a phase: one answer each, the first refusal ends the list, nothing outside the root is touched."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from dyno_node.apply import apply
from dyno_node.request import BadRequest
from tests.node.program import Program

Answers = list[dict[str, Any]]
Do = Callable[..., Answers]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def do(root: Path) -> Do:
    def run(*actions: dict[str, Any], **verbs: Any) -> Answers:
        return list(apply({"root": str(root), "actions": list(actions)}, verbs))

    return run


def writing(path: Path, content: str = "x", mode: int = 0o600) -> dict[str, Any]:
    return {"do": "write", "path": str(path), "content": content, "mode": mode}


def test_actions_in_their_order_and_an_answer_for_each(do: Do, root: Path) -> None:
    assert do(writing(root / "a"), writing(root / "a", "y")) == [
        {"action": 0, "ok": True},
        {"action": 1, "ok": True},
    ]
    assert (root / "a").read_text() == "y"
    assert do() == []


def test_a_file_is_written_with_its_mode_and_its_folders(do: Do, root: Path) -> None:
    do(writing(root / "units" / "decode-0" / "unit.json", "ü"))
    path = root / "units" / "decode-0" / "unit.json"
    assert path.read_bytes() == "ü".encode()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["unit.json"]  # nothing beside it is left


def test_what_a_power_loss_left_beside_a_file_is_taken_up_by_the_next_write(do: Do, root: Path) -> None:
    (root / ".a.part").write_text("half of something longer")
    (root / ".a.part").chmod(0o644)
    do(writing(root / "a"))
    assert ((root / "a").read_text(), (root / "a").stat().st_mode & 0o777) == ("x", 0o600)
    assert [each.name for each in root.iterdir()] == ["a"]


def test_two_who_write_one_file_wait_for_each_other(root: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        texts = [str(number) * 100_000 for number in range(8)]
        answers = pool.map(
            lambda text: list(apply({"root": str(root), "actions": [writing(root / "a", text)]}, {})),
            texts * 4,
        )
        assert all(answer == [{"action": 0, "ok": True}] for answer in answers)
    assert (root / "a").read_text() in texts
    assert [each.name for each in root.iterdir()] == ["a"]


def test_the_first_refusal_ends_the_list(do: Do, root: Path) -> None:
    (root / "file").write_text("")
    answers = do(writing(root / "a"), writing(root / "file" / "b"), writing(root / "c"))
    assert answers == [
        {"action": 0, "ok": True},
        {"action": 1, "ok": False, "error": f"file exists ({root}/file)"},
    ]
    assert not (root / "c").exists()


def test_a_full_disk_in_plain_words(do: Do, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/x")

    monkeypatch.setattr("dyno_node.apply.os.fsync", full)
    assert do(writing(root / "a")) == [{"action": 0, "ok": False, "error": "the disk is full (/x)"}]
    assert list(root.iterdir()) == []


def test_an_old_file_stays_whole_where_the_new_one_cannot_be_written(
    do: Do, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(writing(root / "a", "old"))
    monkeypatch.setattr(
        "dyno_node.apply.os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(5, "I/O error"))
    )
    assert do(writing(root / "a", "new")) == [{"action": 0, "ok": False, "error": "i/o error"}]
    assert (root / "a").read_text() == "old"


@pytest.mark.parametrize("path", ["/etc/passwd", "{root}", "{root}/../x", "{root}/a/../../x", "{root}x/y"])
@pytest.mark.parametrize("what", ["write", "remove", "unpack", "environment"])
def test_nothing_outside_the_root_is_touched(do: Do, root: Path, path: str, what: str) -> None:
    place = path.format(root=root)
    action = {"do": what, "path": place, "content": "", "mode": 0o600, "archive": place, "into": place}
    (answer,) = do({**action, "requirements": [], "python": None, "wheelhouse": None, "index_url": None})
    assert answer["ok"] is False
    assert answer["error"] == f"{os.path.normpath(place)} is not below {root}"


def test_a_root_behind_a_link_is_a_root(tmp_path: Path, root: Path) -> None:
    link = tmp_path / "home"
    link.symlink_to(root)
    request = {"root": f"{link}/.dynoctl", "actions": [writing(link / ".dynoctl" / "a")]}
    assert list(apply(request, {})) == [{"action": 0, "ok": True}]
    assert (root / ".dynoctl" / "a").read_text() == "x"


def test_a_home_folder_is_that_of_the_node(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root))
    request = {"root": "~/.dynoctl", "actions": [writing(Path("~/.dynoctl/a"))]}
    assert list(apply(request, {})) == [{"action": 0, "ok": True}]
    assert (root / ".dynoctl" / "a").exists()


def test_removing_takes_folders_files_links_and_what_is_gone(do: Do, root: Path) -> None:
    (root / "clusters" / "c" / "n1" / "units").mkdir(parents=True)
    (root / "keep").mkdir()
    (root / "link").symlink_to(root / "keep")
    actions = [{"do": "remove", "path": str(root / name)} for name in ("clusters/c/n1", "link", "never")]
    assert all(answer["ok"] for answer in do(*actions))
    assert [each.name for each in root.iterdir()] == ["keep"]  # and the folders above that were left empty


def test_removing_leaves_a_folder_above_that_holds_something_else(do: Do, root: Path) -> None:
    (root / "clusters" / "c" / "n1").mkdir(parents=True)
    (root / "clusters" / "d").mkdir()
    do({"do": "remove", "path": str(root / "clusters" / "c" / "n1")})
    assert [each.name for each in (root / "clusters").iterdir()] == ["d"]


def archive(path: Path, **files: str) -> Path:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name, content in files.items():
            target.writestr(f"pkg/{name}.py", content)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(out.getvalue())
    return path


def unpacking(root: Path) -> dict[str, Any]:
    return {"do": "unpack", "archive": str(root / "code" / "d1.zip"), "into": str(root / "code" / "d1")}


def test_an_archive_is_unpacked_whole_and_goes(do: Do, root: Path) -> None:
    sent = archive(root / "code" / "d1.zip", a="1")
    assert do(unpacking(root)) == [{"action": 0, "ok": True}]
    assert (root / "code" / "d1" / "pkg" / "a.py").read_text() == "1"
    assert (root / "code" / "d1" / ".complete").exists()
    assert not sent.exists()
    assert do(unpacking(root)) == [{"action": 0, "ok": True}]  # again, with nothing sent


def test_what_a_power_loss_left_of_an_archive_is_unpacked_anew(do: Do, root: Path) -> None:
    (root / "code" / "d1" / "pkg").mkdir(parents=True)
    (root / "code" / "d1" / "pkg" / "stale.py").write_text("")
    archive(root / "code" / "d1.zip", a="1")
    do(unpacking(root))
    assert [each.name for each in (root / "code" / "d1" / "pkg").iterdir()] == ["a.py"]


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 torn"])
def test_an_archive_that_did_not_arrive_whole(do: Do, root: Path, content: bytes | None) -> None:
    (root / "code").mkdir()
    if content is not None:
        (root / "code" / "d1.zip").write_bytes(content)
    (answer,) = do(unpacking(root))
    assert answer["ok"] is False
    assert answer["error"].startswith(f"{root}/code/d1.zip did not arrive whole: ")
    assert not (root / "code" / "d1" / ".complete").exists()


def test_two_who_unpack_the_same_do_not_disturb_each_other(root: Path) -> None:
    answers: list[dict[str, Any]] = []
    sent = archive(root / "code" / "d1.zip", **{f"m{number}": "x" * 10_000 for number in range(50)})
    content = sent.read_bytes()

    def one() -> None:
        for _ in range(5):
            beside = sent.with_name(f"{threading.get_ident()}")
            beside.write_bytes(content)
            beside.replace(sent)  # as a push does
            answers.extend(apply({"root": str(root), "actions": [unpacking(root)]}, {}))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer["ok"] for answer in answers] == [True] * 20
    assert [each.name for each in (root / "code").iterdir()] == ["d1"]  # the lock that they shared is gone


def call(*argv: str, timeout_s: float = 30) -> dict[str, Any]:
    return {"do": "call", "argv": [sys.executable, *argv], "env": {"WORD": "hush"}, "timeout_s": timeout_s}


def test_a_program_of_ours_is_run_to_its_end(do: Do) -> None:
    assert do(call("-c", "import os; print(os.environ['WORD'])")) == [
        {"action": 0, "ok": True, "out": "hush\n"}
    ]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import sys; print(1); sys.exit('broken')", "broken"),
        ("print('\\n'.join('abcdefg')); raise SystemExit(3)", "c\nd\ne\nf\ng"),
        ("raise SystemExit(3)", "it ended with status 3 and said nothing"),
    ],
)
def test_a_program_that_fails_says_why(do: Do, code: str, error: str) -> None:
    assert do(call("-c", code)) == [{"action": 0, "ok": False, "error": error}]


def test_a_program_that_does_not_end_or_is_not_there(do: Do) -> None:
    assert do(call("-c", "import time; time.sleep(600)", timeout_s=0.2)) == [
        {"action": 0, "ok": False, "error": "not done after 0.2 s"}
    ]
    gone = {"do": "call", "argv": ["/no/python"], "env": {}, "timeout_s": 1}
    assert do(gone) == [{"action": 0, "ok": False, "error": "no such file or directory (/no/python)"}]


def test_starts_and_stops_are_the_verbs_own_answers(do: Do) -> None:
    asked: list[dict[str, Any]] = []

    def start(action: dict[str, Any]) -> dict[str, Any]:
        asked.append(action)
        return {"ok": False, "error": "it ended at once", "log": ["line"]}

    assert do({"do": "start", "unit_dir": "/u"}, {"do": "stop"}, start=start, stop=start) == [
        {"action": 0, "ok": False, "error": "it ended at once", "log": ["line"], "took_s": ANY}
    ]
    assert asked == [{"do": "start", "unit_dir": "/u"}]


def test_neighbours_are_started_side_by_side_and_each_is_answered(do: Do, root: Path) -> None:
    both = threading.Barrier(2)

    def start(action: dict[str, Any]) -> dict[str, Any]:
        both.wait(timeout=30)
        if action["unit_dir"] == "/a":
            raise OSError(errno.ENOSPC, "No space left on device", "/a/log")
        return {"ok": True, "pid": 1}

    units = [{"do": "start", "unit_dir": "/a"}, {"do": "start", "unit_dir": "/b"}]
    assert do(writing(root / "a"), *units, writing(root / "b"), start=start) == [
        {"action": 0, "ok": True},
        {"action": 1, "ok": False, "error": "the disk is full (/a/log)", "took_s": ANY},
        {"action": 2, "ok": True, "pid": 1, "took_s": ANY},
    ]
    assert not (root / "b").exists()  # a refusal ends the list


def swept(**found: Any) -> dict[str, Any]:
    return {"ok": True, "processes": [], "ports": [], "cgroups": [], "services": [], **found}


def test_a_sweep_keeps_to_the_root_and_names_what_is_left(do: Do, root: Path) -> None:
    asked: list[dict[str, Any]] = []
    found = swept(
        processes=[{"pid": 7, "unit": "c/n1/decode-0", "argv": ["sleep", "9"]}],
        ports=[{"port": 8000, "pid": 8, "argv": "nc -l"}, {"port": 8001, "pid": None, "argv": None}],
        cgroups=["/sys/fs/cgroup/x"],
        services=["dyno-x.service"],
    )

    def sweep(action: dict[str, Any]) -> dict[str, Any]:
        asked.append(action)
        return found

    (answer,) = do({"do": "sweep", "cluster": "c", "node": "n1", "ports": [8000], "stop": True}, sweep=sweep)
    assert asked[0]["under"] == str(root)
    assert answer == {
        "action": 0,
        "ok": False,
        "left": [
            "process 7 of c/n1/decode-0: ['sleep', '9']",
            "port 8000 listens: process 8, nc -l",
            "port 8001 listens",
            "cgroup /sys/fs/cgroup/x",
            "systemd unit dyno-x.service",
        ],
        "error": "5 things of ours are left",
    }


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        (swept(), {"ok": True, "left": []}),
        (
            swept(cgroups=["/x"]),
            {"ok": False, "left": ["cgroup /x"], "error": "1 thing of ours is left"},
        ),
        (
            swept(ok=False, error="systemd does not stop x"),
            {"ok": False, "left": [], "error": "systemd does not stop x"},
        ),
    ],
)
def test_a_sweep_that_found_little(do: Do, found: dict[str, Any], answer: dict[str, Any]) -> None:
    assert do({"do": "sweep"}, sweep=lambda action: found) == [{"action": 0, **answer}]


def test_an_action_of_a_later_version(do: Do) -> None:
    assert do({"do": "dance"}) == [
        {"action": 0, "ok": False, "error": "this node program does not know the action 'dance'"}
    ]


@pytest.mark.parametrize("request_", [{}, {"root": "/r"}, {"root": "/r", "actions": {}}, {"actions": []}])
def test_bad_requests(request_: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        list(apply(request_, {}))


def test_whole_units_through_the_packed_program(program: Program, tmp_path: Path) -> None:
    """As `remote.execute` asks: files, start; start again; stop and forget; prove that nothing is left."""
    root = tmp_path / "root"
    folder = root / "clusters" / "test" / "n1" / "units" / "a-0"
    program.units.append(folder)
    document = {
        "unit": "a-0",
        "cluster": "test",
        "node": "n1",
        "digest": "d1",
        "argv": [sys.executable, "-c", "import time; time.sleep(600)"],
    }
    start = [writing(folder / "unit.json", json.dumps(document)), {"do": "start", "unit_dir": str(folder)}]
    first, second = program.lines("apply", {"root": str(root), "actions": start})
    assert first == {"action": 0, "ok": True}
    assert (second["ok"], second["phase"]) == (True, "running")
    again = program.lines("apply", {"root": str(root), "actions": start})[1]
    assert (again["ok"], again["already"], again["pid"]) == (True, True, second["pid"])
    end = [
        {"do": "stop", "unit_dir": str(folder), "grace_s": 1.0},
        {"do": "remove", "path": str(folder)},
        {"do": "sweep", "cluster": "test", "node": "n1", "ports": [], "stop": True},
        {"do": "remove", "path": str(root / "clusters" / "test" / "n1")},
    ]
    assert [answer["ok"] for answer in program.lines("apply", {"root": str(root), "actions": end})] == [
        True
    ] * 4
    assert list(root.iterdir()) == []

"""What every connection does: the same tests on this machine, on a fake node and over real SSH."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from dynoctl.errors import CommandFailed, TimedOut, Unreachable
from dynoctl.remote.connection import Completed, Connection
from dynoctl.remote.fake import Call, FakeHost
from dynoctl.remote.local import LocalConnection
from tests.dynoctl.remote.conftest import Reach
from tests.dynoctl.remote.sshd import Sshd

LIMIT_S = 30.0


class Node(Protocol):
    """A connected node under test. A real one knows by itself what a script gives; a fake one is told."""

    connection: Connection
    folder: str

    def gives(self, script: str, reply: Completed | Callable[[Call], Completed]) -> None: ...
    def hangs(self) -> None: ...
    def read(self, path: str) -> bytes: ...
    def mode(self, path: str) -> int: ...


class RealNode:
    def __init__(self, connection: Connection, folder: Path) -> None:
        self.connection = connection
        self.folder = str(folder)

    def gives(self, script: str, reply: Completed | Callable[[Call], Completed]) -> None:
        """It does."""

    def hangs(self) -> None:
        """The script does."""

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def mode(self, path: str) -> int:
        return Path(path).stat().st_mode & 0o7777


class FakeNode:
    def __init__(self) -> None:
        self.host = FakeHost("n1")
        self.connection: Connection = self.host.connect()
        self.folder = "/fake"

    def gives(self, script: str, reply: Completed | Callable[[Call], Completed]) -> None:
        self.host.answer(script, reply)

    def hangs(self) -> None:
        self.host.faults.delay_s = 60

    def read(self, path: str) -> bytes:
        return self.host.files[path].content

    def mode(self, path: str) -> int:
        return self.host.files[path].mode


@pytest.fixture(params=["local", "fake", "ssh"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    if request.param == "local":
        yield RealNode(LocalConnection("n1"), tmp_path)
    elif request.param == "fake":
        yield FakeNode()
    else:
        start: Callable[..., Sshd] = request.getfixturevalue("sshd")
        reach: Reach = request.getfixturevalue("reach")
        yield RealNode(reach.to(start()).to("n1"), tmp_path)


def run(node: Node, script: str, reply: Completed, stdin: bytes = b"") -> Completed:
    node.gives(script, reply)
    return node.connection.run(script, stdin=stdin, timeout_s=LIMIT_S)


def test_it_knows_its_name_and_that_it_lives(node: Node) -> None:
    assert node.connection.node == "n1"
    assert node.connection.alive


def test_output_error_and_status_come_back_apart(node: Node) -> None:
    expected = Completed(3, b"out\n", b"err\n")
    assert run(node, "echo out; echo err >&2; exit 3", expected) == expected


def test_a_script_may_have_many_lines_and_every_character(node: Node) -> None:
    script = "cat <<'X'\n'\"\\ $HOME `x` !! % \\0101 \\n ~ # ü €\n\ttab\nX\nprintf '%s' \"a'b\""
    expected = Completed(0, "'\"\\ $HOME `x` !! % \\0101 \\n ~ # ü €\n\ttab\na'b".encode(), b"")
    assert run(node, script, expected) == expected


def test_a_script_beyond_the_length_of_an_argument_still_gets_its_input(node: Node) -> None:
    script = f"# {'x' * 150_000}\necho begun; cat"
    expected = Completed(0, b"begun\ninput", b"")
    assert run(node, script, expected, b"input") == expected


def test_no_arguments_and_no_variables_of_ours_reach_the_script(node: Node) -> None:
    expected = Completed(0, b"0 unset\n", b"")
    assert run(node, 'echo "$# ${s-unset}"', expected) == expected


def test_input_reaches_the_script_and_then_ends(node: Node) -> None:
    content = bytes(range(256)) * 4000
    expected = Completed(0, content, b"")
    node.gives("cat", lambda call: Completed(0, call.stdin, b""))
    assert node.connection.run("cat", stdin=content, timeout_s=LIMIT_S) == expected


def test_without_input_it_ends_at_once(node: Node) -> None:
    assert run(node, "cat; echo end", Completed(0, b"end\n", b"")).out == b"end\n"


def test_a_script_that_does_not_read_its_input_is_fine(node: Node) -> None:
    assert run(node, "exit 4", Completed(4, b"", b""), b"x" * 5_000_000).status == 4


def test_much_on_both_streams_at_once_does_not_block(node: Node) -> None:
    script = "head -c 5000000 /dev/zero & head -c 5000000 /dev/zero >&2; wait"
    done = run(node, script, Completed(0, bytes(5_000_000), bytes(5_000_000)))
    assert (len(done.out), len(done.err)) == (5_000_000, 5_000_000)


def test_lines_are_told_as_whole_lines_and_are_in_the_output_too(node: Node) -> None:
    script = "printf 'one\\ntw'; printf 'o\\n\\nend'"
    node.gives(script, Completed(0, b"one\ntwo\n\nend", b""))
    lines: list[str] = []
    done = node.connection.run(script, timeout_s=LIMIT_S, on_line=lines.append)
    assert lines == ["one", "two", "", "end"]
    assert done.out == b"one\ntwo\n\nend"


def test_what_the_reader_of_lines_raises_comes_back_as_it_is(node: Node) -> None:
    node.gives("echo one; sleep 60", Completed(0, b"one\n", b""))

    def reader(line: str) -> None:
        raise BrokenPipeError(line)

    with pytest.raises(BrokenPipeError, match="one"):
        node.connection.run("echo one; sleep 60", timeout_s=LIMIT_S, on_line=reader)


def test_a_script_that_does_not_end_in_time_is_an_error(node: Node) -> None:
    node.hangs()
    with pytest.raises(TimedOut) as caught:
        node.connection.run("sleep 60", timeout_s=0.3)
    assert caught.value.message == "n1: a command did not end within 0.3 s"


def test_several_scripts_run_at_the_same_time(node: Node) -> None:
    done: dict[int, bytes] = {}

    def ask(number: int) -> None:
        done[number] = run(node, f"echo {number}", Completed(0, b"%d\n" % number, b"")).out

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert done == {number: b"%d\n" % number for number in range(20)}


def test_a_file_is_put_whole_with_its_mode(node: Node) -> None:
    content = os.urandom(2_000_000)
    path = f"{node.folder}/new folder/it's here"
    node.connection.put(content, path, mode=0o755, timeout_s=LIMIT_S)
    assert node.read(path) == content
    assert node.mode(path) == 0o755


def test_an_empty_file_can_be_put(node: Node) -> None:
    path = f"{node.folder}/empty"
    node.connection.put(b"", path, mode=0o600, timeout_s=LIMIT_S)
    assert node.read(path) == b""


def test_a_file_replaces_an_older_one(node: Node) -> None:
    path = f"{node.folder}/file"
    node.connection.put(b"old", path, mode=0o755, timeout_s=LIMIT_S)
    node.connection.put(b"new", path, mode=0o600, timeout_s=LIMIT_S)
    assert (node.read(path), node.mode(path)) == (b"new", 0o600)


def test_a_file_can_be_read_back(node: Node) -> None:
    path = f"{node.folder}/file"
    node.connection.put(b"content", path, mode=0o600, timeout_s=LIMIT_S)
    assert node.connection.run(f"cat {path}", timeout_s=LIMIT_S).out == b"content"
    assert node.connection.run(f"cat {path}.not", timeout_s=LIMIT_S).status == 1


def test_after_closing_nothing_works_and_closing_again_is_fine(node: Node) -> None:
    node.connection.close()
    node.connection.close()
    assert not node.connection.alive
    with pytest.raises(Unreachable):
        node.connection.run("true", timeout_s=LIMIT_S)
    with pytest.raises(Unreachable):
        node.connection.put(b"", f"{node.folder}/file", mode=0o600, timeout_s=LIMIT_S)


def test_closing_ends_a_script_that_is_under_way(node: Node) -> None:
    node.hangs()
    begun, raised = threading.Event(), []

    def work() -> None:
        try:
            node.connection.run("echo; sleep 60", timeout_s=60, on_line=lambda line: begun.set())
        except Unreachable as error:
            raised.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    if not isinstance(node, FakeNode):
        assert begun.wait(LIMIT_S)
    node.connection.close()
    worker.join(10)
    assert len(raised) == 1


class TestRefusedFiles:
    """What stands in the way of a file, on real disks."""

    @pytest.fixture(params=["local", "ssh"])
    def node(self, request: pytest.FixtureRequest, tmp_path: Path) -> RealNode:
        if request.param == "local":
            return RealNode(LocalConnection("n1"), tmp_path)
        start: Callable[..., Sshd] = request.getfixturevalue("sshd")
        reach: Reach = request.getfixturevalue("reach")
        return RealNode(reach.to(start()).to("n1"), tmp_path)

    @pytest.mark.parametrize(
        ("path", "why"),
        [
            ("a folder", "it is a folder"),
            ("a file/below", "a part of its path is a file, not a folder"),
            ("x" * 300, "the name is too long"),
        ],
    )
    def test_the_reason_is_told_in_words(self, node: RealNode, path: str, why: str) -> None:
        root = Path(node.folder)
        (root / "a folder").mkdir()
        (root / "a file").touch()
        with pytest.raises(CommandFailed) as caught:
            node.connection.put(b"x", f"{root}/{path}", mode=0o600, timeout_s=LIMIT_S)
        assert caught.value.message == f"n1: cannot write {root}/{path}: {why}"

    def test_folders_that_are_made_are_private(self, node: RealNode) -> None:
        node.connection.put(b"x", f"{node.folder}/one/two/file", mode=0o644, timeout_s=LIMIT_S)
        assert [node.mode(f"{node.folder}/{name}") for name in ("one", "one/two")] == [0o700, 0o700]

"""Files from node to node: whole and proved, gone on with where cut off, refused where they are not right."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyno_node import fetch
from dyno_node.apply import apply
from dyno_node.fetch import Fetch, FetchRefused
from dyno_node.offer import Offer


class Source:
    """A folder that is offered in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.offer = Offer("127.0.0.1", 0, folder, "right")
        self.port = self.offer.server_address[1]
        threading.Thread(target=self.offer.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def files(self) -> list[list[object]]:
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [
            [str(path.relative_to(self.folder)), path.stat().st_size, path.stat().st_mtime_ns]
            for path in paths
        ]

    def to(self, folder: Path, token: str = "right") -> list[str]:
        record = folder.parent / "models" / "record.json"
        return list(Fetch("127.0.0.1", self.port, token, folder, self.files(), record).run())


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    folder = tmp_path / "source"
    (folder / "deep er").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "empty").touch()
    (folder / "deep er" / "ü #1.safetensors").write_bytes(os.urandom(3_000_000))
    (folder / "linked.bin").symlink_to(folder / "config.json")
    found = Source(folder)
    yield found
    found.offer.shutdown()
    found.offer.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FIRST_PAUSE_S", 0.001)


def same(one: Path, other: Path) -> bool:
    def content(folder: Path) -> dict[str, bytes]:
        paths = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    return content(one) == content(other)


def test_a_folder_comes_whole(source: Source, tmp_path: Path) -> None:
    said = source.to(tmp_path / "new" / "copy")
    assert same(source.folder, tmp_path / "new" / "copy")
    assert said[-1].startswith("0.0 of 0.0 GB, ")


def test_what_is_right_stays_and_what_was_cut_off_goes_on(source: Source, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "deep er").mkdir(parents=True)
    (copy / "config.json").write_text("{}")
    (copy / "linked.bin").write_text("[]")  # of the right size, and another file
    weights = (source.folder / "deep er" / "ü #1.safetensors").read_bytes()
    (copy / "deep er" / ".ü #1.safetensors.part").write_bytes(weights[:2_000_000])
    before = (copy / "config.json").stat()
    asked: list[str] = []
    begins = http.client.HTTPConnection.request

    def request(self: http.client.HTTPConnection, method: str, url: str, **more: object) -> None:
        headers: dict[str, str] = more["headers"]  # type: ignore[assignment]
        asked.append(f"{url} {headers.get('Range')}")
        begins(self, method, url, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http.client.HTTPConnection, "request", request)
        source.to(copy)
    assert any(each.endswith(".safetensors bytes=2000000-") for each in asked)
    assert same(source.folder, copy)
    assert (copy / "config.json").stat() == before
    assert not list(copy.rglob("*.part"))


def test_a_file_is_compared_once_and_again_when_it_changed_on_either_side(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[str] = []
    summed = fetch._sha256

    def counted(path: Path) -> str:
        sums.append(path.name)
        return summed(path)

    monkeypatch.setattr(fetch, "_sha256", counted)
    copy = tmp_path / "copy"
    source.to(copy)
    assert len(sums) == 4
    sums.clear()
    source.to(copy)
    assert sums == []
    (copy / "config.json").write_text("[]")
    weights = source.folder / "deep er" / "ü #1.safetensors"
    weights.write_bytes(os.urandom(3_000_000))  # as large as before: the next checkpoint of the same model
    source.to(copy)
    assert sorted(sums) == [".config.json.part", ".ü #1.safetensors.part", "config.json", "ü #1.safetensors"]
    assert same(source.folder, copy)
    sums.clear()
    (copy.parent / "models" / "record.json").write_text("torn")
    source.to(copy)
    assert len(sums) == 4
    assert json.loads((copy.parent / "models" / "record.json").read_text())["folder"] == str(copy)


def test_a_part_of_something_else_is_found_out_and_fetched_anew(source: Source, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "deep er").mkdir(parents=True)
    (copy / "deep er" / ".ü #1.safetensors.part").write_bytes(b"x" * 1_000_000)
    source.to(copy)
    assert same(source.folder, copy)


def test_a_connection_that_breaks_is_made_again(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = http.client.HTTPResponse.read1
    broken: list[int] = []

    def read1(self: http.client.HTTPResponse, count: int = -1) -> bytes:
        if len(broken) < 5:
            broken.append(1)
            raise ConnectionResetError(104, "Connection reset by peer")
        return reads(self, min(count, 100_000))

    monkeypatch.setattr(http.client.HTTPResponse, "read1", read1)
    source.to(tmp_path / "copy")
    assert same(source.folder, tmp_path / "copy")


def test_a_source_that_sends_other_content_is_refused(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Offer, "sha256", lambda self, path: "0" * 64)
    with pytest.raises(
        FetchRefused, match=r"^127\.0\.0\.1:\d+ sent .* twice with other content than it has$"
    ):
        source.to(tmp_path / "copy")
    assert not [path for path in (tmp_path / "copy").rglob("*") if path.is_file() and path.suffix != ".part"]


def test_without_the_token_nothing_is_given(source: Source, tmp_path: Path) -> None:
    with pytest.raises(FetchRefused, match=r"^127\.0\.0\.1:\d+ does not give .*: status 401$"):
        source.to(tmp_path / "copy", token="wrong")


@pytest.mark.parametrize(
    "path", ["/file/../secret", "/file/%2e%2e/secret", "/file//etc/passwd", "/file/", "/x"]
)
def test_nothing_but_the_folder_is_offered(source: Source, path: str) -> None:
    (source.folder.parent / "secret").write_text("s")
    connection = http.client.HTTPConnection("127.0.0.1", source.port, timeout=5)
    connection.request("GET", path, headers={"Authorization": "Bearer right"})
    assert connection.getresponse().status == 404
    connection.close()


def test_nothing_is_written_beside_the_folder(source: Source, tmp_path: Path) -> None:
    for name in ("../x", "/tmp/x"):
        fetching = Fetch("127.0.0.1", source.port, "right", tmp_path / "copy", [[name, 1, 1]], tmp_path / "r")
        with pytest.raises(FetchRefused, match=r" is no path below a folder$"):
            list(fetching.run())


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    action = {"do": "fetch", "path": str(tmp_path / "m"), "host": "127.0.0.1", "port": port}
    more = {"files": [["a", 1, 1]], "token": "t", "record": str(tmp_path / "models" / "m.json")}
    request = {"root": str(tmp_path), "actions": [{**action, **more}]}
    *_, answer = apply(request, {})
    refused = f"127.0.0.1:{port} does not send a: [Errno 111] Connection refused"
    assert answer == {"action": 0, "ok": False, "error": refused}


def test_the_offer_as_a_unit_runs_it(pyz: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a").write_bytes(b"abc")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"host": "127.0.0.1", "port": port, "path": str(tmp_path / "m"), "token": "t"}
    (tmp_path / "settings.json").write_text(json.dumps(told))
    argv = [sys.executable, "-I", str(pyz), "offer", str(tmp_path / "settings.json")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"offering {tmp_path / 'm'} on 127.0.0.1:{port}\n"
        list(Fetch("127.0.0.1", port, "t", tmp_path / "copy", [["a", 3, 1]], tmp_path / "r").run())
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=10)
    assert (tmp_path / "copy" / "a").read_bytes() == b"abc"
    assert "GET /file/a" in out
    assert "Bearer" not in out

"""Host keys: known_hosts files in all their forms, and pinning from many threads and processes."""

from __future__ import annotations

import base64
import multiprocessing
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dynoctl.errors import DynoctlError, HostKeyChanged, HostKeyUnknown
from dynoctl.remote import host_keys
from dynoctl.remote.host_keys import HostKeys
from dynoctl.remote.known_hosts import HostKey, KnownHosts
from dynoctl.remote.target import Target

ONE = HostKey("ssh-ed25519", b"one")
TWO = HostKey("ssh-ed25519", b"two")
RSA = HostKey("ssh-rsa", b"rsa")


def target(host: str = "gpu1", *, port: int = 22, known_hosts: tuple[str, ...] = ()) -> Target:
    return Target(node="n1", host=host, hostname=host, port=port, user="me", known_hosts=known_hosts)


class TestFile:
    @pytest.mark.parametrize(
        ("names", "name", "found"),
        [
            ("gpu1", "gpu1", True),
            ("gpu1", "gpu11", False),
            ("GPU1,10.0.0.1", "10.0.0.1", True),
            ("GPU1,10.0.0.1", "gpu1", True),
            ("[gpu1]:2222", "[gpu1]:2222", True),
            ("[gpu1]:2222", "gpu1", False),
            ("[gpu?]:*", "[gpu1]:2222", True),
            ("gpu*", "gpu1", True),
            ("gpu*,!gpu1", "gpu1", False),
            ("gpu*,!gpu1", "gpu2", True),
        ],
    )
    def test_names(self, names: str, name: str, found: bool) -> None:
        known = KnownHosts("file", f"# comment\n\n{names} {ONE.text} a comment\n")
        assert [(entry.key, entry.line) for entry in known.find(name)] == ([(ONE, 3)] if found else [])

    def test_markers_and_damage(self) -> None:
        known = KnownHosts(
            "file",
            f"@cert-authority * {ONE.text}\n@revoked gpu1 {TWO.text}\ngpu1\ngpu1 ssh-rsa\n"
            f"gpu1 ssh-rsa !!!\n|1|x {ONE.text}\n|1|!!|!! {ONE.text}\n",
        )
        assert [(entry.key, entry.revoked) for entry in known.find("gpu1")] == [(TWO, True)]

    @pytest.mark.parametrize("name", ["gpu1", "[gpu1]:2222"])
    def test_entries_that_openssh_hashed(self, tmp_path: Path, name: str) -> None:
        if shutil.which("ssh-keygen") is None:
            pytest.skip("no ssh-keygen on this machine")
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")],
            check=True,
            timeout=20,
        )
        public = (tmp_path / "key.pub").read_text().split()[1]
        path = tmp_path / "known_hosts"
        path.write_text(f"{name} ssh-ed25519 {public}\n")
        subprocess.run(
            ["ssh-keygen", "-q", "-H", "-f", str(path)], check=True, capture_output=True, timeout=20
        )
        assert path.read_text().startswith("|1|")
        (entry,) = KnownHosts(str(path), path.read_text()).find(name)
        assert entry.key == HostKey("ssh-ed25519", base64.b64decode(public))
        assert KnownHosts(str(path), path.read_text()).find("other") == []


class TestVerify:
    def test_the_first_key_is_pinned_once(self, tmp_path: Path) -> None:
        heard: list[object] = []
        keys = HostKeys(tmp_path / "new" / "known_hosts", pin=True, on_pin=heard.append)
        keys.verify(target(), ONE)
        keys.verify(target(), ONE)
        assert len(heard) == 1
        assert (tmp_path / "new" / "known_hosts").read_text() == f"gpu1 {ONE.text}\n"
        assert (tmp_path / "new" / "known_hosts").stat().st_mode & 0o777 == 0o600
        assert keys.types(target()) == ("ssh-ed25519",)

    def test_a_changed_key_is_refused_and_the_file_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "known_hosts"
        keys = HostKeys(path, pin=True)
        keys.verify(target(port=2222), ONE)
        with pytest.raises(HostKeyChanged) as caught:
            keys.verify(target(port=2222), TWO)
        assert caught.value.detail == (
            f"known: {ONE} ({path}:1)",
            f"shown: {TWO}",
            "Was the machine installed anew? Then remove the known key. If not, somebody may stand in between.",
        )
        assert path.read_text() == f"[gpu1]:2222 {ONE.text}\n"

    def test_another_kind_of_key_is_a_change_too(self, tmp_path: Path) -> None:
        """We ask for the kind that is known, so a host that shows another one does not have it any more."""
        keys = HostKeys(tmp_path / "known_hosts", pin=True)
        keys.verify(target(), RSA)
        with pytest.raises(HostKeyChanged):
            keys.verify(target(), ONE)

    def test_what_the_user_knows_counts(self, tmp_path: Path) -> None:
        users = tmp_path / "users"
        users.write_text(f"gpu1 {ONE.text}\n")
        mine = target(known_hosts=(str(users), str(tmp_path / "none")))
        HostKeys(tmp_path / "known_hosts", pin=False).verify(mine, ONE)
        assert not (tmp_path / "known_hosts").exists()
        with pytest.raises(HostKeyChanged) as caught:
            HostKeys(tmp_path / "known_hosts", pin=True).verify(mine, TWO)
        assert caught.value.detail[0] == f"known: {ONE} ({users}:1)"
        assert caught.value.next == f"ssh-keygen -R gpu1 -f {users}"

    def test_the_clusters_pin_wins_over_what_the_user_knows(self, tmp_path: Path) -> None:
        users = tmp_path / "users"
        users.write_text(f"gpu1 {ONE.text}\n")
        (tmp_path / "known_hosts").write_text(f"gpu1 {TWO.text}\n")
        HostKeys(tmp_path / "known_hosts", pin=False).verify(target(known_hosts=(str(users),)), TWO)

    def test_a_revoked_key_is_refused_also_where_it_was_pinned(self, tmp_path: Path) -> None:
        (tmp_path / "known_hosts").write_text(f"@revoked gpu1 {ONE.text}\n")
        with pytest.raises(HostKeyChanged) as caught:
            HostKeys(tmp_path / "known_hosts", pin=True).verify(target(), ONE)
        assert caught.value.message == (
            "n1: gpu1:22 shows a host key that is marked as revoked; nothing was sent to it"
        )

    def test_an_unknown_key_where_nothing_may_be_pinned(self, tmp_path: Path) -> None:
        with pytest.raises(HostKeyUnknown) as caught:
            HostKeys(tmp_path / "known_hosts", pin=False).verify(target(), ONE)
        assert caught.value.message == (
            f"n1: the host key of gpu1:22 is not known yet ({ONE}), "
            "and only `dynoctl up` pins keys, also with --dry-run"
        )
        assert caught.value.next == "ssh me@gpu1"

    def test_a_file_without_a_last_newline_is_continued_properly(self, tmp_path: Path) -> None:
        (tmp_path / "known_hosts").write_text(f"gpu1 {ONE.text}")
        HostKeys(tmp_path / "known_hosts", pin=True).verify(target("gpu2"), TWO)
        assert (tmp_path / "known_hosts").read_text() == f"gpu1 {ONE.text}\ngpu2 {TWO.text}\n"

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(DynoctlError) as caught:
            HostKeys(tmp_path / "file" / "x" / "known_hosts", pin=True).verify(target(), ONE)
        assert caught.value.message == f"{tmp_path}/file/x/known_hosts cannot be written: Not a directory"

    def test_a_lock_that_is_never_freed_is_given_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(host_keys, "LOCK_S", 0.1)
        path = tmp_path / "known_hosts"
        with host_keys._locked(path), pytest.raises(DynoctlError) as caught:
            HostKeys(path, pin=True).verify(target(), ONE)
        assert caught.value.message == f"{path} has been locked by another process for 0.1 s"


def _pin(path: Path, start: int) -> None:
    keys = HostKeys(path, pin=True)
    threads = [
        threading.Thread(
            target=keys.verify, args=(target(f"gpu{number}"), HostKey("ssh-rsa", b"%d" % number))
        )
        for number in range(start, start + 20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def test_many_threads_of_several_processes_pin_at_once(tmp_path: Path) -> None:
    """Two processes share ten hosts, so that some are pinned by both."""
    path = tmp_path / "known_hosts"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_pin, args=(path, start)) for start in (0, 10, 30)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    names = [line.split()[0] for line in path.read_text().splitlines()]
    assert sorted(names) == sorted(f"gpu{number}" for number in range(50))


def test_a_key_that_another_process_pinned_meanwhile_counts(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    first, second = HostKeys(path, pin=True), HostKeys(path, pin=True)
    assert second.types(target()) == ()
    first.verify(target(), ONE)
    with pytest.raises(HostKeyChanged):
        second.verify(target(), TWO)
    second.verify(replace(target(), node="n2"), ONE)

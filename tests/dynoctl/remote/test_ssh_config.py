"""~/.ssh/config as OpenSSH reads it; where `ssh` is here, it is the judge."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dynoctl.errors import UsageError
from dynoctl.remote.ssh_config import SshConfig, find_files
from dynoctl.remote.ssh_lines import ConfigFile


def config(text: str, files: dict[str, str] | None = None) -> SshConfig:
    """A config in memory; `files` are what `Include` finds, by their path."""

    def find(pattern: str) -> list[ConfigFile]:
        return [ConfigFile(path, body, "/ssh") for path, body in (files or {}).items() if path == pattern]

    return SshConfig([ConfigFile("config", text, "/ssh")], find)


def test_host_and_match_and_first_value_wins() -> None:
    found = config(
        "Host gpu* !gpu9\n User ubuntu\n Port 2222\nMatch originalhost gpu1\n HostName 10.0.0.1\n"
        "Host *\n User other\n"
    )
    assert found.lookup("gpu1")["hostname"] == "10.0.0.1"
    assert (found.lookup("gpu1")["user"], found.lookup("gpu9")["user"]) == ("ubuntu", "other")


def test_the_callers_user_and_port_come_first_and_reach_tokens() -> None:
    found = config("Host *\n User x\n Port 1\n ProxyCommand nc %h %p %r\n")
    options = found.lookup("a", user="me", port=7)
    assert (options["user"], options["port"], options["proxycommand"]) == ("me", "7", "nc a 7 me")
    assert found.lookup("a")["proxycommand"] == "nc a 1 x"


def test_an_include_is_followed_where_it_stands() -> None:
    files = {"/ssh/more": "User included\nHost a\n Port 7\n"}
    found = config("Include more\nUser later\nPort 9\n", files)
    assert found.lookup("a") == {"hostname": "a", "user": "included", "port": "7"}
    assert found.lookup("b") == {"hostname": "b", "user": "included", "port": "9"}


def test_an_include_inside_a_block_counts_for_that_block_alone() -> None:
    files = {"/ssh/more": "User included\nHost b\n Port 7\n"}
    found = config("Host a c\n Include more\n Port 9\nHost *\n User rest\n", files)
    assert found.lookup("a") == {"hostname": "a", "user": "included", "port": "9"}
    assert found.lookup("b") == {"hostname": "b", "user": "rest"}
    assert found.lookup("c")["port"] == "9"


def test_an_include_that_names_nothing_is_passed_over() -> None:
    assert config("Include not-there\nUser me\n").lookup("a")["user"] == "me"


def test_a_circle_of_includes_ends_with_an_error() -> None:
    with pytest.raises(UsageError, match="more than 16 levels of `Include`"):
        config("Include more\n", {"/ssh/more": "Include more\n"}).lookup("a")


def test_comments_at_the_end_of_a_line() -> None:
    found = config("Host a # the first\n HostName 10.0.0.1 # rack 7\n ProxyCommand sh -c '# no comment'\n")
    options = found.lookup("a")
    assert (options["hostname"], options["proxycommand"]) == ("10.0.0.1", "sh -c '# no comment'")


def test_match_exec_is_asked_where_the_rest_of_the_line_fits() -> None:
    asked: list[str] = []

    def test(command: str) -> bool:
        asked.append(command)
        return command.endswith("a")

    text = (
        'Port 7\nMatch host a,b exec "on-vpn %h %n:%p %% a"\n User vpn\n'
        "Match !exec x originalhost a\n User not\n"
    )
    found = SshConfig([ConfigFile("config", text, "")], test=test)
    assert found.lookup("a")["user"] == "vpn"
    assert found.lookup("c").get("user") is None
    assert asked == ["on-vpn a a:7 % a", "x"]


@pytest.mark.parametrize(("command", "user"), [("true", "yes"), ("false", "no"), ("exit 3", "no")])
def test_match_exec_runs_a_real_command(command: str, user: str) -> None:
    assert config(f"Match exec '{command}'\n User yes\nHost *\n User no\n").lookup("a")["user"] == user


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Nonsense\n", "config cannot be understood: Unparsable line Nonsense"),
        ("CanonicalizeHostname yes\n", "config cannot be understood: 'canonicaldomains'"),
    ],
)
def test_what_cannot_be_understood_is_an_error_that_names_the_file(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        config(text).lookup("a")
    assert caught.value.message == why


def test_files_are_found_by_patterns_and_in_order(tmp_path: Path) -> None:
    for name in ("b.conf", "a.conf", "c.txt"):
        (tmp_path / name).write_text(f"# {name}")
    assert [file.text for file in find_files(f"{tmp_path}/*.conf")] == ["# a.conf", "# b.conf"]
    assert find_files(f"{tmp_path}/none") == []


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    with pytest.raises(UsageError) as caught:
        SshConfig.read(str(tmp_path / "config"), "/nonexistent")
    assert caught.value.message == f"{tmp_path}/config cannot be read: Is a directory"


OPENSSH = """\
# a comment
Include d/*.conf
User everybody
Host bastion
  HostName bastion.example.com
Host gpu? gpu1?
  HostName %h.example.com
  Port=2200
  IdentityFile ~/.ssh/one
  IdentityFile "/keys/two keys"
  Include nested
Match host gpu7.example.com
  User seven
Host *
  IdentityFile /keys/last
  ProxyJump bastion
"""
NESTED = "UserKnownHostsFile /nested\nHost gpu2\n  Port 99\n  IdentitiesOnly yes\n"


@pytest.mark.parametrize("host", ["gpu1", "gpu2", "gpu7", "gpu12", "gpu123", "bastion", "other", "early"])
def test_openssh_reads_the_same(tmp_path: Path, host: str) -> None:
    """`ssh -G` is asked with HOME elsewhere, so relative includes are written out."""
    if shutil.which("ssh") is None:
        pytest.skip("no ssh on this machine")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "1.conf").write_text("Host early\n  User bird\n  Port 1\n")
    (tmp_path / "nested").write_text(NESTED)
    (tmp_path / "config").write_text(
        OPENSSH.replace("Include d", f"Include {tmp_path}/d").replace(
            "Include nested", f"Include {tmp_path}/nested"
        )
    )
    asked = subprocess.run(
        ["ssh", "-G", "-F", str(tmp_path / "config"), host],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout
    theirs: dict[str, list[str]] = {}
    for line in asked.splitlines():
        key, _, value = line.partition(" ")
        theirs.setdefault(key, []).append(value)
    ours = SshConfig.read(str(tmp_path / "config"), "/nonexistent").lookup(host)
    home = str(Path.home())
    assert ours["hostname"] == theirs["hostname"][0]
    assert ours.get("port", "22") == theirs["port"][0]
    assert ours.get("user") == theirs["user"][0]
    assert ours.get("proxyjump") == theirs["proxyjump"][0]
    assert ours.get("identitiesonly", "no") == theirs["identitiesonly"][0]
    assert [name.replace("~", home) for name in ours["identityfile"]] == [
        name.replace("~", home) for name in theirs["identityfile"]
    ]
    if "userknownhostsfile" in ours:
        assert ours["userknownhostsfile"] == theirs["userknownhostsfile"][0]

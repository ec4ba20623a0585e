"""Scripts on their way through login shells: every shell that is here must hand them to sh unchanged."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from dynoctl.remote.framing import frame

NASTY = "printf '%s|' \"$0\" 'it''s' \"a\\\\b\" '!x' '`' '$HOME' '%s' '\\0101' 'ü' \"tab\there\"\nprintf 'two lines'"


def ran(shell: str, script: str, stdin: bytes = b"") -> tuple[bytes, bytes, int]:
    framed = frame(script)
    done = subprocess.run(
        [shell, "-c", framed.command], input=framed.head + stdin, capture_output=True, timeout=20, check=False
    )
    out, err = (stream.partition(framed.mark + b"\n")[2] for stream in (done.stdout, done.stderr))
    return out, err, done.returncode


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "zsh", "ksh", "fish", "tcsh", "csh"])
def test_a_login_shell_does_not_change_the_script(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    out, err, status = ran(shell, f"{NASTY}\necho err >&2\nexit 7")
    assert out == "sh|its|a\\b|!x|`|$HOME|%s|\\0101|ü|tab\there|two lines".encode()
    assert (err, status) == (b"err\n", 7)


def test_the_command_holds_nothing_that_some_shell_would_touch_in_single_quotes() -> None:
    command = frame("'!\n\\\t" + "".join(map(chr, range(1, 300)))).command
    payload = command.rsplit(" '", 1)[1].removesuffix("'")
    assert not set(payload) & set("'!\n\r\t")
    assert payload.isascii()


def test_the_mark_is_not_in_the_command() -> None:
    framed = frame("true")
    assert framed.mark.decode() not in framed.command
    assert framed.mark != frame("true").mark


def test_a_long_script_travels_before_the_input() -> None:
    script = f"# {'x' * 200_000}\ncat"
    framed = frame(script)
    assert framed.head == script.encode()
    assert len(framed.command) < 1000
    assert ran("sh", script, b"input")[0] == b"input"


def test_a_script_with_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="a script cannot hold a NUL character"):
        frame("echo \0")

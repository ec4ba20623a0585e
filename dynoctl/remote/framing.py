"""How a script reaches `sh` on a node through a login shell that we did not choose, and how its output is told apart.

In: the text of a script. Out: a command for sshd, bytes that go before its standard input, and a mark.

sshd hands the command to the user's login shell (bash, zsh, fish, csh: their quoting differs), and bash reads
~/.bashrc first, which may print. So the script travels in single quotes and in an alphabet that every shell keeps
as it is, and `sh` prints a mark on both streams before the script begins: everything before it is noise. The mark is
joined there from two halves, so that a shell which echoes its commands cannot print it by accident.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

ARGUMENT_BYTES = 100_000  # Linux allows 128 kB for one argument

_MARK = r'printf "%s%s\n" "$1" "$2"; printf "%s%s\n" "$1" "$2" >&2; '
_SHORT = _MARK + 's=$3; set --; eval "unset s; $(printf %b "$s")"'
# One byte at a time, because what follows the script in the same pipe is the script's own standard input.
_LONG = _MARK + 's=$(dd bs=1 count="$3" 2>/dev/null); set --; eval "unset s; $s"'
LONG_LOCAL = 's=$(dd bs=1 count="$1" 2>/dev/null); set --; eval "unset s; $s"'

_UNSAFE = re.compile(rb"[^A-Za-z0-9 _./:;,=+@%^~$\"#&|<>(){}\[\]*?`-]")


@dataclass(frozen=True, slots=True)
class Framed:
    """`command` for the login shell, `head` to send before the standard input, `mark` that ends the noise."""

    command: str
    head: bytes
    mark: bytes


def frame(script: str) -> Framed:
    """Wrap `script` for a login shell.

    Raises:
        ValueError: the script holds a NUL character.
    """
    text = checked(script)
    left, right = secrets.token_hex(8), secrets.token_hex(8)
    encoded = _encode(text)
    long = len(encoded) > ARGUMENT_BYTES
    boot, payload = (_LONG, str(len(text))) if long else (_SHORT, encoded)
    command = f"exec /bin/sh -c '{boot}' sh {left} {right} '{payload}'"
    return Framed(command, text if long else b"", (left + right).encode())


def checked(script: str) -> bytes:
    """The script as bytes, refused where `sh` could not read it."""
    text = script.encode()
    if b"\0" in text:
        raise ValueError("a script cannot hold a NUL character")
    return text


def _encode(text: bytes) -> str:
    r"""For `printf %b`: what some shell might touch in single quotes becomes `\0` and three octal digits."""
    return _UNSAFE.sub(lambda found: b"\\0%03o" % found[0][0], text).decode("ascii")

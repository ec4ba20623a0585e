"""The lines of SSH config files as they count for one host, in a form that paramiko understands.

In: files. Out: lines without `Include` and `Match exec`, which are worked out here: paramiko does not follow the one,
and needs a further library for the other that reads our standard input. Comments at the end of a line go, too.
"""

from __future__ import annotations

import getpass
import re
import shlex
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dynoctl.errors import UsageError

INCLUDE_DEPTH = 16  # as in OpenSSH
EXEC_S = 10.0
NEVER = "match originalhost never.invalid"
_KEYWORD = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.+)")
_RAW = frozenset({"proxycommand", "localcommand", "remotecommand", "match"})  # `#` may belong to the value
_PROBE = "dynoctlprobe"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """One file: where it is, what it says, and the folder that relative `Include` paths start from."""

    path: str
    text: str
    folder: str


Find = Callable[[str], list[ConfigFile]]


class Lines:
    """`found` grows as files are read. `depend_on_host` says that another host may have other lines."""

    def __init__(self, host: str, find: Find, test: Callable[[str], bool], head: list[str]) -> None:
        self._host = host
        self._find = find
        self._test = test
        self.found = head
        self.depend_on_host = False

    def read(self, file: ConfigFile, depth: int = 0) -> None:
        """Add a file. It begins where any host is meant."""
        if depth > INCLUDE_DEPTH:
            raise UsageError(f"{file.path}: more than {INCLUDE_DEPTH} levels of `Include`")
        self.found.append("host *")
        block = ""
        for line in file.text.splitlines():
            keyword, value = _split(line)
            if keyword == "include":
                if not block or self._applies(block):
                    self._include(value, file, depth)
                continue
            line = f"{keyword} {value}"
            if keyword in ("host", "match"):
                line = block = self._without_exec(value) if keyword == "match" else line
            if keyword:
                self.found.append(line)

    def _include(self, value: str, file: ConfigFile, depth: int) -> None:
        for pattern in shlex.split(value):
            path = pattern if pattern.startswith(("/", "~")) else f"{file.folder}/{pattern}"
            for found in self._find(path):
                self.read(ConfigFile(found.path, found.text, file.folder), depth + 1)
        # What follows belongs again to the block around the `Include`; that one applies to this host, or the files
        # would not have been read.
        self.found.append("host *")

    def _without_exec(self, value: str) -> str:
        """The `Match` line with the outcome of its `exec` in the place of it; run only where the rest fits."""
        words = shlex.split(value)
        places = [place for place, word in enumerate(words) if word.lower().lstrip("!") == "exec"]
        if not places:
            return f"match {value}"
        place = places[0]
        rest = " ".join(words[:place] + words[place + 2 :]) or "all"
        block = f"match {rest}"
        if not self._applies(block):
            return NEVER
        wanted = not words[place].startswith("!")
        command = "".join(words[place + 1 : place + 2])
        return block if self._test(self._told(command)) is wanted else NEVER

    def _told(self, command: str) -> str:
        """The command with its tokens replaced, by what is known so far."""
        options = self._lookup([])
        me = getpass.getuser()
        tokens = {
            "%": "%",
            "h": options.get("hostname", self._host),
            "n": self._host,
            "p": options.get("port", "22"),
            "r": options.get("user", me),
            "u": me,
            "d": str(Path.home()),
            "l": socket.gethostname(),
        }
        return re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), command)

    def _applies(self, block: str) -> bool:
        """Whether a block applies to the host; asked of paramiko with a key of our own."""
        self.depend_on_host = True
        return _PROBE in self._lookup([block, f"{_PROBE} yes"])

    def _lookup(self, more: list[str]) -> dict[str, str]:
        from paramiko import SSHConfig

        return dict(SSHConfig.from_text("\n".join([*self.found, *more])).lookup(self._host))


def run_quietly(command: str) -> bool:
    """Run a command of the person's own config, as `ssh` does, and say whether it ended well."""
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=EXEC_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _split(line: str) -> tuple[str, str]:
    """Keyword in lower case and value; two empty strings for a comment or nothing."""
    stripped = line.strip()
    if not stripped or stripped.startswith("#"):
        return "", ""
    found = _KEYWORD.match(stripped)
    if found is None:
        return stripped, ""  # paramiko says what is wrong with it
    keyword, value = found[1].lower(), found[2]
    if keyword not in _RAW and '"' not in value:
        value = re.sub(r"\s+#.*$", "", value)
    return keyword, value

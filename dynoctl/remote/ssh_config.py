"""~/.ssh/config and /etc/ssh/ssh_config as OpenSSH reads them: `Host`, `Match`, and `Include` wherever it stands.

In: the text of the files. Out: for a host, the options that apply to it. paramiko parses and matches; it does not
follow `Include` and does not know comments at the end of a line, so both are worked out here before it reads.
"""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynoctl.errors import UsageError

if TYPE_CHECKING:
    from paramiko import SSHConfig

INCLUDE_DEPTH = 16  # as in OpenSSH
_KEYWORD = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.+)")
_RAW = frozenset({"proxycommand", "localcommand", "remotecommand", "match"})  # `#` may belong to the value
_PROBE = "dynoctlprobe"
_WAY_OUT = "name user, port and key under `ssh:` in the topology instead"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """One file: where it is, what it says, and the folder that relative `Include` paths start from."""

    path: str
    text: str
    folder: str


Find = Callable[[str], list[ConfigFile]]


class SshConfig:
    """The options of each host. `find` gives the files that a pattern of an `Include` line names."""

    def __init__(self, files: Iterable[ConfigFile] = (), find: Find = lambda pattern: []) -> None:
        self._files = tuple(files)
        self._find = find
        self._parsed_for: dict[tuple[str | None, int | None], SSHConfig] = {}

    @classmethod
    def read(cls, user: str = "~/.ssh/config", system: str = "/etc/ssh/ssh_config") -> SshConfig:
        """The user's file, then the system's; one that is not there is empty. Raises UsageError."""
        return cls([file for path in (user, system) for file in find_files(path)], find_files)

    def lookup(self, host: str, *, user: str | None = None, port: int | None = None) -> dict[str, Any]:
        """The options for `host`, keys in lower case, tokens expanded; `identityfile` is a list.

        `user` and `port` stand before everything in the files, as on the command line of `ssh`.

        Raises:
            UsageError: the files hold something that cannot be understood.
        """
        names = " and ".join(file.path for file in self._files)
        try:
            return dict(self._parsed(host, user, port).lookup(host))
        except ImportError:
            raise UsageError(f"{names}: `Match exec` is not supported", next=_WAY_OUT) from None
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"{names} cannot be understood: {error}", next=f"ssh -G {shlex.quote(host)}"
            ) from error

    def _parsed(self, host: str, user: str | None, port: int | None) -> SSHConfig:
        from paramiko import SSHConfig

        if (user, port) not in self._parsed_for:
            head = [f"user {user}"] if user else []
            head += [f"port {port}"] if port else []
            expansion = _Expansion(host, self._find, head)
            for file in self._files:
                expansion.read(file)
            parsed = SSHConfig.from_text("\n".join(expansion.lines))
            if expansion.depends_on_host:
                return parsed
            self._parsed_for[user, port] = parsed
        return self._parsed_for[user, port]


class _Expansion:
    """The lines of the files for one host, without `Include`."""

    def __init__(self, host: str, find: Find, head: list[str]) -> None:
        self._host = host
        self._find = find
        self.lines = head
        self.depends_on_host = False

    def read(self, file: ConfigFile, depth: int = 0) -> None:
        """Add a file. It begins where any host is meant."""
        if depth > INCLUDE_DEPTH:
            raise UsageError(f"{file.path}: more than {INCLUDE_DEPTH} levels of `Include`")
        self.lines.append("host *")
        block = ""
        for line in file.text.splitlines():
            keyword, value = _split(line)
            if keyword == "include":
                if self._applies(block):
                    self._include(value, file, depth)
                continue
            if keyword in ("host", "match"):
                block = f"{keyword} {value}"
            if keyword:
                self.lines.append(f"{keyword} {value}")

    def _include(self, value: str, file: ConfigFile, depth: int) -> None:
        for pattern in shlex.split(value):
            path = pattern if pattern.startswith(("/", "~")) else f"{file.folder}/{pattern}"
            for found in self._find(path):
                self.read(ConfigFile(found.path, found.text, file.folder), depth + 1)
        # What follows belongs again to the block around the `Include`; that one applies to this host, or the files
        # would not have been read.
        self.lines.append("host *")

    def _applies(self, block: str) -> bool:
        """Whether the block around an `Include` applies to the host; asked of paramiko with a key of our own."""
        if not block:
            return True
        from paramiko import SSHConfig

        self.depends_on_host = True
        asked = SSHConfig.from_text("\n".join([*self.lines, block, f"{_PROBE} yes"]))
        return _PROBE in asked.lookup(self._host)


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


def find_files(pattern: str) -> list[ConfigFile]:
    """The files that a pattern names, in order. Raises UsageError where one is there and cannot be read."""
    files = []
    for name in sorted(glob.glob(str(Path(pattern).expanduser()))):  # noqa: PTH207  (the pattern is absolute)
        try:
            text = Path(name).read_text(errors="replace")
        except OSError as error:
            raise UsageError(f"{name} cannot be read: {error.strerror}") from error
        files.append(ConfigFile(name, text, _include_folder(name)))
    return files


def _include_folder(name: str) -> str:
    """Where OpenSSH looks for relative names: /etc/ssh from the system's file, ~/.ssh from everybody else's."""
    return "/etc/ssh" if name.startswith("/etc/ssh/") else str(Path(name).parent)

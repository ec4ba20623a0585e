"""~/.ssh/config and /etc/ssh/ssh_config as OpenSSH reads them: `Host`, `Match`, and `Include` wherever it stands.

In: the text of the files. Out: for a host, the options that apply to it. paramiko parses and matches the lines that
`ssh_lines` gives it.
"""

from __future__ import annotations

import glob
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynoctl.errors import UsageError
from dynoctl.remote.ssh_lines import ConfigFile, Find, Lines, run_quietly

if TYPE_CHECKING:
    from paramiko import SSHConfig


class SshConfig:
    """The options of each host.

    `find` gives the files that a pattern of an `Include` line names; `test` runs the command of a `Match exec` and
    says whether it ended well.
    """

    def __init__(
        self,
        files: Iterable[ConfigFile] = (),
        find: Find = lambda pattern: [],
        test: Callable[[str], bool] = run_quietly,
    ) -> None:
        self._files = tuple(files)
        self._find = find
        self._test = test
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
            lines = Lines(host, self._find, self._test, head)
            for file in self._files:
                lines.read(file)
            parsed = SSHConfig.from_text("\n".join(lines.found))
            if lines.depend_on_host:
                return parsed
            self._parsed_for[user, port] = parsed
        return self._parsed_for[user, port]


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

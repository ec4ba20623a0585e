"""dynoctl as a person runs it: a command line in, an exit code and two texts out; or a process that can be killed.

In: the folder that stands for a machine (what dynoctl keeps, a home without SSH settings). Out: `Done`, `Child`.
Most runs are made in this process, which saves half a second each and lets warnings fail the test.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynoctl.__main__ import run

ENDS_WITHIN_S = 90.0


@dataclass(frozen=True)
class Done:
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document of a run with --json."""
        return json.loads(self.out)

    @property
    def error(self) -> list[str]:
        """The lines from the first `error: ` on."""
        lines = self.err.splitlines()
        first = next((number for number, line in enumerate(lines) if line.startswith("error: ")), len(lines))
        return lines[first:]

    def ok(self) -> Done:
        """This, if it went well."""
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        return self


class Dynoctl:
    """A machine from which dynoctl is run."""

    def __init__(self, folder: Path) -> None:
        self.env = {"HOME": str(folder / "person"), "DYNOCTL_HOME": str(folder / "dynoctl")}
        self.ssh_config = folder / "person" / ".ssh" / "config"
        self.ssh_config.parent.mkdir(parents=True, exist_ok=True)
        self.known = folder / "dynoctl" / "known"

    def __call__(self, *argv: str) -> Done:
        """Run to the end, in this process."""
        out, err = io.StringIO(), io.StringIO()
        with _environment(self.env), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(list(argv))
        return Done(code, out.getvalue(), err.getvalue())

    def start(self, *argv: str) -> Child:
        """Run in a process of its own."""
        return Child([sys.executable, "-m", "dynoctl", *argv], {**os.environ, **self.env})


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """These variables, and no agent, until the end."""
    before = dict(os.environ)
    os.environ.update(changes)
    os.environ.pop("SSH_AUTH_SOCK", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Child:
    """A running dynoctl. As a context it is killed at the end."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        env.pop("SSH_AUTH_SOCK", None)
        self._process = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._said: dict[str, list[str]] = {"out": [], "err": []}
        self._changed = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True) for name in self._said
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        stream = self._process.stdout if name == "out" else self._process.stderr
        assert stream is not None
        with stream:
            for line in stream:
                with self._changed:
                    self._said[name].append(line)
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, text: str) -> None:
        """Until it has said a line with `text` on standard error."""

        def seen() -> bool:
            return any(text in line for line in self._said["err"]) or not self._readers[1].is_alive()

        with self._changed:
            self._changed.wait_for(seen, ENDS_WITHIN_S)
            said = "".join(self._said["err"])
        assert text in said, f"{text!r} was not said:\n{said}"

    def kill(self) -> None:
        """As kill -9 does."""
        self._process.kill()
        self._process.wait()

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends by itself in that time."""
        deadline = time.monotonic() + seconds
        while self.running and time.monotonic() < deadline:
            time.sleep(0.005)
        return not self.running

    def end(self) -> Done:
        """Wait for its own end."""
        code = self._process.wait(ENDS_WITHIN_S)
        for reader in self._readers:
            reader.join(ENDS_WITHIN_S)
        return Done(code, "".join(self._said["out"]), "".join(self._said["err"]))

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for reader in self._readers:
            reader.join(ENDS_WITHIN_S)

"""Starting one process: held back until its pid is on the disk, then executed, with the reason if that fails.

In: argv, environment, where its output goes. Out: the running process, or `CannotStart` with one sentence.
Used by the supervisor only, which has no threads: fork without exec in the child is safe there.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dyno_node import proc

_OPEN_FILES = 65536


class CannotStart(Exception):
    """The program could not be executed; the text is one sentence."""


def spawn(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    folder: Path,
    output: int,
    before: Callable[[proc.Process], None],
) -> proc.Process:
    """Start `argv` in a session of its own, reading nothing, writing to the descriptor `output`.

    Order: fork; the child waits; `before` writes down who it is; the child executes. If we die or `before`
    raises in between, the child reads the end of our pipe and goes: nothing runs without being written down.

    Raises:
        CannotStart: no such program, not executable, or its interpreter is missing.
        OSError: whatever `before` raised.
    """
    program = _program(argv[0], env)
    go_read, go_write = os.pipe()
    error_read, error_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(program, argv, env, folder, output, go_read, go_write, error_write)
    os.close(go_read)
    os.close(error_write)
    try:
        process = _process(pid)
        before(process)
        os.write(go_write, b"g")
    except BaseException:
        os.close(go_write)
        go_write = -1
        os.waitpid(pid, 0)
        raise
    finally:
        if go_write >= 0:
            os.close(go_write)
        reason = _read_all(error_read)
        os.close(error_read)
    if reason:
        os.waitpid(pid, 0)
        raise CannotStart(_sentence(program, int(reason)))
    return process


def _program(name: str, env: Mapping[str, str]) -> str:
    found = name if "/" in name else shutil.which(name, path=env.get("PATH", os.defpath))
    if found is None:
        raise CannotStart(f"there is no program {name} on the PATH of this node")
    return found


def _process(pid: int) -> proc.Process:
    stat = proc.stat_of(pid)
    assert stat is not None  # our own child, not waited for
    return stat.process


def _read_all(fd: int) -> bytes:
    text = b""
    while chunk := os.read(fd, 64):
        text += chunk
    return text


def _child(
    program: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    folder: Path,
    output: int,
    go_read: int,
    go_write: int,
    error_write: int,
) -> None:
    """Never returns. Exits without a word where the supervisor is gone before it said go."""
    try:
        os.close(go_write)
        if os.read(go_read, 1) != b"g":
            os._exit(127)
        os.setsid()
        os.chdir(folder)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        _plain_signals()
        _more_files()
        os.execve(program, list(argv), dict(env))
    except OSError as error:
        os.write(error_write, str(error.errno).encode())
    finally:
        os._exit(127)


def _plain_signals() -> None:
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(signum, signal.SIG_DFL)
        except OSError:
            continue  # the C library keeps two real-time signals for itself
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _more_files() -> None:
    # A session over SSH starts with 1024; a frontend holds one descriptor for each client.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _sentence(program: str, number: int) -> str:
    why = os.strerror(number)
    if number == 2 and Path(program).exists():
        why = "the interpreter named in its first line is missing"
    return f"cannot start {program}: {why}"

"""A unit's log: written by the unit itself, rotated by its supervisor, read from its end.

The unit holds the log open for appending and writes into it without anyone between, so it neither blocks nor
dies when the supervisor does, as it would behind a pipe. Rotation must therefore leave that very file in place:
its front is copied to `log.1` and then cut off. Where the file system can collapse a range (ext4, xfs) the cut is one
step that no writer can fall into, and not a byte is lost. Elsewhere the file is emptied right after the copy has
reached its end; a line written between these two system calls, a few microseconds, would be lost.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_COLLAPSE_RANGE = 0x08
_BLOCK_BYTES = 4096
_CHUNK_BYTES = 1 << 20


def open_log(path: Path) -> int:
    """The log, open for appending (0600), inheritable by nobody."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def rotate(path: Path, keep: int) -> None:
    """Move what is in the log to `log.1`, that to `log.2` and so on; at most `keep` of them stay.

    Whole blocks are moved (4 KiB), so a line may begin in one part and end in the next. A power loss in the
    middle leaves some lines in both `log` and `log.1`, and never loses any.

    Raises:
        OSError: the disk is full, say; the log is as it was.
    """
    source = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        cut_bytes = (os.fstat(source).st_size - 1) // _BLOCK_BYTES * _BLOCK_BYTES
        if cut_bytes > 0:
            _rotate(source, path, keep, cut_bytes)
    finally:
        os.close(source)


def _rotate(source: int, path: Path, keep: int, cut_bytes: int) -> None:
    part = path.with_name(path.name + ".part")
    target = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if keep > 0:
            _copy(source, target, 0, cut_bytes)
            os.fsync(target)
            _shift(path, keep)
            part.replace(old(path, 1))
        if not _collapse(source, cut_bytes):
            if keep > 0:
                _copy(source, target, cut_bytes, None)
            os.ftruncate(source, 0)
    finally:
        os.close(target)
        part.unlink(missing_ok=True)


def tail(path: Path, lines: int = 20, max_bytes: int = 64 * 1024) -> list[str]:
    """The last lines of the log, out of `log.1` too where a rotation has just emptied it."""
    text = b""
    for each in (path, old(path, 1)):
        text = _end_of(each, max_bytes - len(text)) + text
        if text.count(b"\n") > lines or len(text) >= max_bytes:
            break
    return text.decode(errors="replace").splitlines()[-lines:]


def old(path: Path, number: int) -> Path:
    """Where the part goes that was rotated away `number` rotations ago."""
    return path.with_name(f"{path.name}.{number}")


def _shift(path: Path, keep: int) -> None:
    for number in range(keep - 1, 0, -1):
        try:
            old(path, number).replace(old(path, number + 1))
        except FileNotFoundError:
            continue


def _copy(source: int, target: int, start: int, stop: int | None) -> None:
    """Copy bytes from `start` to `stop`, or to wherever the end is by the time we get there."""
    while stop is None or start < stop:
        chunk = os.pread(source, min(_CHUNK_BYTES, stop - start) if stop is not None else _CHUNK_BYTES, start)
        if not chunk:
            return
        start += len(chunk)
        while chunk:
            chunk = chunk[os.write(target, chunk) :]


def _collapse(fd: int, length: int) -> bool:
    """Cut the first `length` bytes off in one step; False where the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    fallocate = getattr(libc, "fallocate64", None) or libc.fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if fallocate(fd, _COLLAPSE_RANGE, 0, length) == 0:
        return True
    if ctypes.get_errno() in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ETXTBSY):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _end_of(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - max_bytes))
            return file.read(max_bytes)
    except FileNotFoundError:
        return b""

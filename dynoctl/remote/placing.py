"""Putting a file on a node, whole or not at all: the script that does it, and what went wrong in plain words.

In: a path, the size and mode of what is to be there. Out: text for `sh` that reads the content from its standard
input; from what that printed, a sentence.
"""

from __future__ import annotations

import errno
import posixpath
import shlex

from dynoctl.errors import CommandFailed
from dynoctl.plan.script import NodePath, assign
from dynoctl.remote.connection import Completed

# A broken connection ends the standard input early and looks like its end, so the size is checked before the rename.
_SCRIPT = """\
LC_ALL=C; export LC_ALL; umask 077
if [ -d "$path" ]; then echo "Is a directory" >&2; exit 1; fi
mkdir -p "$folder" || exit 1
part=$path.part-$$
trap 'rm -f "$part"' EXIT
trap 'exit 1' HUP INT TERM PIPE
cat > "$part" || exit 1
size=$(wc -c < "$part") || exit 1
if [ "$size" -ne "$expected" ]; then echo "only $size of $expected bytes arrived" >&2; exit 1; fi
chmod "$mode" "$part" && sync "$part" && mv -f "$part" "$path" || exit 1
"""

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EEXIST: "a part of its path is a file, not a folder",
    errno.EFBIG: "the file is larger than allowed there",
    errno.EIO: "the disk reports an input/output error",
    errno.ENAMETOOLONG: "the name is too long",
}
_PRINTED = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
    "Permission denied": errno.EACCES,
    "Operation not permitted": errno.EPERM,
    "Is a directory": errno.EISDIR,
    "Not a directory": errno.ENOTDIR,
    "File exists": errno.EEXIST,
    "File too large": errno.EFBIG,
    "Input/output error": errno.EIO,
    "File name too long": errno.ENAMETOOLONG,
}


def script(path: str, *, mode: int, size_bytes: int) -> str:
    """What runs on the node; the content is its standard input."""
    head = [
        assign("path", NodePath(path)),
        assign("folder", NodePath(posixpath.dirname(path) or ".")),
        assign("mode", f"{mode:04o}"),
        assign("expected", str(size_bytes)),
    ]
    return "\n".join([*head, _SCRIPT])


def refused(node: str, path: str, done: Completed, *, login: str) -> CommandFailed:
    """The error for a script that did not end well. `login` is how a person gets to the node: `ssh me@host`."""
    lines = done.err.decode(errors="replace").splitlines()
    said = next((number for text, number in _PRINTED.items() if any(text in line for line in lines)), None)
    why = reason(said) if said else (lines[-1] if lines else f"the shell ended with status {done.status}")
    return failure(node, path, why, said, detail=lines, login=login)


def refused_here(node: str, path: str, error: OSError) -> CommandFailed:
    """The same for this machine, from what the system call said."""
    why = reason(error.errno) if error.errno in _REASONS else str(error.strerror or error)
    return failure(node, path, why, error.errno, detail=[], login="")


def reason(number: int | None) -> str:
    """The sentence for an errno that is known here."""
    return _REASONS.get(number or 0, f"error {number}")


def failure(
    node: str, path: str, why: str, number: int | None, *, detail: list[str], login: str
) -> CommandFailed:
    """`node1: cannot write ~/x: the disk is full`, and the command that shows more."""
    folder = NodePath(posixpath.dirname(path) or ".").quoted()
    look = f"df -h {folder}" if number in (errno.ENOSPC, errno.EDQUOT) else f"ls -ld {folder}"
    next_command = f"{login} {shlex.quote(look)}" if login else look
    return CommandFailed(node, f"cannot write {path}: {why}", detail=detail[-5:], next=next_command)

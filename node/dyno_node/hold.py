"""The cluster's lock: held for as long as somebody keeps asking for it.

In: `{"path", "holder": {...}, "silence_s"}` as the first line of standard input, then an empty line now and then.
Out: one line, `{"ok": true}`, or `{"ok": false, "holder": {...}}` with whoever has it. The lock is an flock, so the
kernel gives it back however this process ends. It ends at end of input (a killed `dynoctl` closes its connection)
or when nothing was said for `silence_s` (a laptop that lost power says nothing at all).
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import sys
from pathlib import Path
from typing import Any

from dyno_node import clock, proc


def hold(request: dict[str, Any]) -> int:
    """Take the lock, say so, and keep it until the other side is done, gone or silent."""
    path = Path(request["path"])
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    guard = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(json.dumps({"ok": False, "holder": _read(guard)}), flush=True)
            return 0
        me = proc.own()
        keeper = {"pid": me.pid, "starttime": me.starttime, "boot_id": clock.boot_id()}
        _write(guard, {"keeper": keeper, **request["holder"]})
        print(json.dumps({"ok": True}), flush=True)
        _listen(float(request["silence_s"]))
        # Emptied while still held: a reader never sees a holder that is gone.
        os.ftruncate(guard, 0)
    finally:
        os.close(guard)
    return 0


def _listen(silence_s: float) -> None:
    """Return at end of input, or after `silence_s` without a byte."""
    source = sys.stdin.fileno()
    while True:
        ready, _, _ = select.select([source], [], [], silence_s)
        if not ready or not os.read(source, 4096):
            return


def _read(guard: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(guard, 65536, 0) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _write(guard: int, holder: dict[str, Any]) -> None:
    os.ftruncate(guard, 0)
    os.pwrite(guard, json.dumps(holder).encode() + b"\n", 0)

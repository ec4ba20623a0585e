"""One exec a node and phase: carry out a list of actions in order, one answer a line.

In: `{"root": …, "actions": [{"do": …, …}, …]}`. Out: for action i `{"action": i, "ok": true, …}` or
`{"action": i, "ok": false, "error": …}`, before it any number of `{"action": i, "progress": …}`. The first
refusal ends the list, and every action may be repeated: a run that was cut off is simply run again. Units that are to
be started or stopped one right after the other are so at the same time, and each of them is answered.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from dyno_node import lock
from dyno_node.request import BadRequest, Refused, Request, text

# What only some actions need is imported by them: an exec that starts units shall not wait for what unpacks archives.

Action = dict[str, Any]
Answer = dict[str, Any]
Verbs = Mapping[str, Callable[[Action], Answer]]
_SIDE_BY_SIDE = ("start", "stop")


def apply(request: Request, verbs: Verbs) -> Iterator[Answer]:
    """Carry out `request["actions"]`; `verbs` are start, stop and sweep of this program."""
    root = _plain(text(request, "root"))
    actions = request.get("actions")
    if not isinstance(actions, list):
        raise BadRequest("actions must be a list")
    # Neighbours with the same key are one group: those of a kind that goes side by side, every other one alone.
    for key, group in groupby(enumerate(actions), lambda item: _key(*item)):
        numbered = list(group)
        answers = (
            _side_by_side(numbered, verbs[key]) if isinstance(key, str) else _one(*numbered[0], root, verbs)
        )
        well = True
        for answer in answers:
            yield answer
            well = well and ("progress" in answer or bool(answer.get("ok")))
        if not well:
            return


def _key(number: int, action: Action) -> str | int:
    return str(action["do"]) if action["do"] in _SIDE_BY_SIDE else number


def _one(number: int, action: Action, root: Path, verbs: Verbs) -> Iterator[Answer]:
    """The answers of one action; whatever is refused in it is an answer, too."""
    try:
        for answer in _carry_out(action, root, verbs):
            yield {"action": number, **answer}
    except Refused as refusal:
        yield {"action": number, "ok": False, "error": str(refusal)}
    except OSError as error:
        yield {"action": number, "ok": False, "error": _sentence(error)}


def _side_by_side(numbered: list[tuple[int, Action]], verb: Callable[[Action], Answer]) -> list[Answer]:
    """An answer for each, in their order: they wait for processes, not for each other."""
    answers: dict[int, Answer] = {}

    def work(number: int, action: Action) -> None:
        start_s = time.monotonic()
        try:
            answer = verb(action)
        except OSError as error:
            answer = {"ok": False, "error": _sentence(error)}
        except BadRequest as error:
            answer = {"ok": False, "error": str(error)}
        answers[number] = {"action": number, **answer, "took_s": round(time.monotonic() - start_s, 3)}

    threads = [threading.Thread(target=work, args=each) for each in numbered[1:]]
    for thread in threads:
        thread.start()
    work(*numbered[0])
    for thread in threads:
        thread.join()
    return [answers[number] for number, _ in numbered]


def _sentence(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == 28:
        return f"the disk is full{where}"
    return f"{(error.strerror or str(error)).lower()}{where}"


def _carry_out(action: Action, root: Path, verbs: Verbs) -> Iterator[Answer]:
    """Answers of one action; the last one has `ok`."""
    match action["do"]:
        case "write":
            _write(_below(root, action["path"]), action["content"].encode(), action["mode"])
        case "unpack":
            _unpack(_below(root, action["archive"]), _below(root, action["into"]))
        case "environment":
            from dyno_node.environment import make

            for progress in make(
                _below(root, action["path"]),
                action["requirements"],
                python=action["python"],
                wheelhouse=action["wheelhouse"],
                index_url=action["index_url"],
                extra_index_url=action["extra_index_url"],
            ):
                yield {"progress": progress}
        case "fetch":
            from dyno_node.fetch import Fetch

            folder = _plain(text(action, "path"))
            record = _below(root, action["record"])
            for progress in Fetch(
                action["host"], action["port"], action["token"], folder, action["files"], record
            ).run():
                yield {"progress": progress}
        case "remove":
            path = _below(root, action["path"])
            _remove(path)
            _prune(path.parent, root)
        case "call":
            yield _call(action)
            return
        case "sweep":
            yield _swept(verbs["sweep"]({"under": str(root), **action}))
            return
        case unknown:
            raise Refused(f"this node program does not know the action {unknown!r}")
    yield {"ok": True}


def _below(root: Path, path: str) -> Path:
    """The path, if it lies below the root: nothing outside is ever written or removed."""
    found = _plain(path)
    if root not in found.parents:
        raise Refused(f"{found} is not below {root}")
    return found


def _plain(path: str) -> Path:
    """Absolute and without `..`. Links stay: a home folder may be one, and so may a folder on a larger disk."""
    return Path(os.path.normpath(Path(path).expanduser()))


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, also when power is lost: written beside, synced, renamed.

    Beside it is one name for all who write it, so that no power loss leaves a file that nobody takes up again.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    with os.fdopen(lock.sole(beside), "wb") as file:
        try:
            os.ftruncate(file.fileno(), 0)
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _unpack(archive: Path, into: Path) -> None:
    """A zip into a folder, by one at a time: two clusters may be brought up side by side."""
    into.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock.guard(into.with_name(f"{into.name}.lock")):  # whoever waits here finds it whole
        if not (into / ".complete").exists():
            _extract(archive, into)
    archive.unlink(missing_ok=True)


def _extract(archive: Path, into: Path) -> None:
    """`.complete` comes last, when all else is on the disk: without it the folder is what a power loss left."""
    import shutil
    import zipfile

    from dyno_node.files import sync

    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(mode=0o700)
    try:
        with zipfile.ZipFile(archive) as source:
            source.extractall(into)
    except (zipfile.BadZipFile, FileNotFoundError) as error:
        raise Refused(f"{archive} did not arrive whole: {error}") from error
    sync(into)
    (into / ".complete").touch()


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _prune(folder: Path, root: Path) -> None:
    """Remove the folders that a removal left empty, up to the root, which stays."""
    while root in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return  # something else is in it
        folder = folder.parent


def _swept(answer: Answer) -> Answer:
    """What a sweep found, as one list of sentences; anything at all means that the sweep did not succeed."""
    processes = [f"process {each['pid']} of {each['unit']}: {each['argv']}" for each in answer["processes"]]
    ports = [
        f"port {each['port']} listens" + (f": process {each['pid']}, {each['argv']}" if each["pid"] else "")
        for each in answer["ports"]
    ]
    cgroups = [f"cgroup {each}" for each in answer["cgroups"]]
    services = [f"systemd unit {each}" for each in answer["services"]]
    left = [*processes, *ports, *cgroups, *services]
    if left:
        what = "1 thing of ours is left" if len(left) == 1 else f"{len(left)} things of ours are left"
        return {"ok": False, "left": left, "error": what}
    if not answer["ok"]:
        return {"ok": False, "left": [], "error": answer["error"]}
    return {"ok": True, "left": []}


def _call(action: Action) -> Answer:
    """Run one of our own programs to its end; its last lines come back when it fails."""
    import subprocess

    argv = [str(Path(action["argv"][0]).expanduser()), *action["argv"][1:]]
    try:
        done = subprocess.run(
            argv,
            env={**os.environ, **action["env"]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=action["timeout_s"],
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"not done after {action['timeout_s']} s") from None
    if done.returncode != 0:
        tail = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-5:]
        raise Refused("\n".join(tail) or f"it ended with status {done.returncode} and said nothing")
    return {"ok": True, "out": done.stdout.decode(errors="replace")}

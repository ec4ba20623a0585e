"""The files of a model's folder on a node, and those of them that dynoctl copied there or compared with the source's.

In: folders. Out: the question to a node, and its answer as `ModelSeen`. What was copied or compared is kept in a
record below the node's root, with the times of both files: one that changed since, on either side, is not proved.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from dynoctl.plan.digest import digest_of
from dynoctl.plan.fact import Fact
from dynoctl.plan.script import NodePath

WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
INDEX = "model.safetensors.index.json"


class ModelFile(NamedTuple):
    """One file: its path below the folder, and when it was written last, in nanoseconds of the node's clock."""

    name: str
    size_bytes: int
    changed_ns: int = 0


@dataclass(frozen=True, slots=True)
class ModelSeen:
    """One model's folder on one node. `missing` are weights that the folder's index names and that are not there;
    `sealed` are files that we may not read; `proved` are files of a source (by name, size and time) whose SHA-256 the
    file of that name here has."""

    there: bool
    readable: bool  # its config.json
    free_bytes: int
    files: tuple[ModelFile, ...] = ()
    missing: tuple[str, ...] = ()
    proved: frozenset[ModelFile] = frozenset()
    part_bytes: int = 0  # of files that arrived in part, which a copy goes on with
    disk: int = 0  # the number of the file system
    sealed: tuple[str, ...] = ()

    @property
    def has_weights(self) -> bool:
        """Whether there is a file that may hold weights."""
        return any(file.name.endswith(WEIGHTS) for file in self.files)


def record_of(place: str, hostname: str) -> str:
    """Where a node keeps what it knows of copies in the folder `place`, below its root, which nodes may share."""
    return f"models/{hostname}/{digest_of(place)}.json"


# Of the hub's cache it is the snapshot that is looked at. At most 10,000 files and 1,000 folders: no model has more.
# A link to a folder is followed, unless it leads to one that it lies in.
_LOOK = """\
import json, os, shutil, sys
def look(path, record):
    above = path
    while not os.path.isdir(above):
        above = os.path.dirname(above) or "/"
    found = {"free_bytes": shutil.disk_usage(above).free, "there": False, "readable": False}
    found.update(disk=os.stat(above).st_dev, part_bytes=0)
    snapshots = os.path.join(path, "snapshots")
    if os.path.isdir(snapshots):
        kept = [os.path.join(snapshots, name) for name in os.listdir(snapshots)]
        path = max(kept, key=os.path.getmtime, default=path)
    found["there"] = os.path.isdir(path)
    files = {}
    way = {path: {os.path.realpath(path)}}
    for folder, inner, names in os.walk(path, followlinks=True):
        real = {name: os.path.realpath(os.path.join(folder, name)) for name in inner if not name.startswith(".")}
        inner[:] = [name for name in real if real[name] not in way[folder]][:max(0, 1000 - len(way))]
        for name in inner:
            way[os.path.join(folder, name)] = way[folder] | {real[name]}
        for name in names:
            whole = os.path.join(folder, name)
            if name.startswith(".") and name.endswith(".part"):
                found["part_bytes"] += os.lstat(whole).st_size
            if not name.startswith(".") and os.path.isfile(whole) and len(files) < 10000:
                is_now = os.stat(whole)
                files[os.path.relpath(whole, path)] = [is_now.st_size, is_now.st_mtime_ns]
    found["files"] = [[name, *files[name]] for name in sorted(files)]
    found["sealed"] = [name for name in sorted(files) if not os.access(os.path.join(path, name), os.R_OK)]
    try:
        with open(record) as file:
            kept = json.load(file)["files"]
        found["proved"] = [
            [name, each["size_bytes"], each["source_changed_ns"]]
            for name, each in kept.items() if files.get(name) == [each["size_bytes"], each["changed_ns"]]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    try:
        with open(os.path.join(path, "config.json")) as file:
            found["readable"] = isinstance(json.load(file), dict)
        with open(os.path.join(path, "model.safetensors.index.json")) as file:
            found["missing"] = sorted(set(json.load(file)["weight_map"].values()) - set(files))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return found
print(json.dumps([look(*pair) for pair in zip(sys.argv[1::2], sys.argv[2::2])]))
"""


def question(places: tuple[str, ...]) -> str:
    """How `sh` asks: a function for the head of the script."""
    records = {place: record_of(place, "$host") for place in places}
    words = " ".join(f'{NodePath(place).quoted()} "$root/{record}"' for place, record in records.items())
    host = "read -r host < /proc/sys/kernel/hostname"
    body = f"{host}\npython3 -I -c '{_LOOK}' {words}" if places else ":"
    return f"ask_models() {{ {body}\n}}"


def _models(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {"models": ()}  # nobody asked, or there is no python3, which is refused elsewhere
    return {
        "models": tuple(
            ModelSeen(
                there=bool(each["there"]),
                readable=bool(each["readable"]),
                free_bytes=int(each["free_bytes"]),
                files=_files(each["files"]),
                missing=tuple(str(name) for name in each.get("missing", ())),
                proved=frozenset(_files(each.get("proved", ()))),
                part_bytes=int(each["part_bytes"]),
                disk=int(each["disk"]),
                sealed=tuple(str(name) for name in each["sealed"]),
            )
            for each in found
        )
    }


def _files(said: Iterable[Any]) -> tuple[ModelFile, ...]:
    return tuple(ModelFile(str(name), int(size), int(changed)) for name, size, changed in said)


MODELS = Fact("models", "ask_models 2>/dev/null", _models)

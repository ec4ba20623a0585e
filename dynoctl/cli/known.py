"""The clusters that were brought up from here: how to find their nodes again, and the host keys that were pinned.

In: names. Out: what is under `~/.dynoctl/known/NAME/`. Nothing there is the truth about a cluster, that is on its
nodes; losing this folder loses only the short way to say NAME instead of FILE.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynoctl.remote import own_files

if TYPE_CHECKING:
    from dynoctl.topology.model import Topology


def home() -> Path:
    """The folder of dynoctl on this machine; `DYNOCTL_HOME` moves it."""
    return Path(os.environ.get("DYNOCTL_HOME") or "~/.dynoctl").expanduser()


@dataclass(frozen=True, slots=True)
class Known:
    """One cluster. `topology` is as it was applied last, secrets included, so its file is 0600; `overrides` are the
    `--set` arguments that were laid over `file` then."""

    name: str
    file: str
    topology: dict[str, Any]
    overrides: tuple[str, ...] = ()


def folder(name: str) -> Path:
    """Where what is known of a cluster is kept."""
    return home() / "known" / name


def known_hosts(name: str) -> Path:
    """The pinned host keys of a cluster."""
    return folder(name) / "known_hosts"


def names() -> tuple[str, ...]:
    """All known clusters, by name."""
    return tuple(sorted(path.parent.name for path in (home() / "known").glob("*/cluster.json")))


def load(name: str) -> Known | None:
    """What is known of one cluster; None where nothing is, or the file is torn."""
    try:
        found = json.loads((folder(name) / "cluster.json").read_bytes())
        overrides = tuple(str(argument) for argument in found.get("overrides", ()))
        return Known(name, str(found["file"]), dict(found["topology"]), overrides)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(file: str, topology: Topology, overrides: tuple[str, ...] = ()) -> None:
    """Remember a cluster that is being brought up. Its file is found again from any folder."""
    save(
        Known(
            topology.name,
            str(Path(file).parent.resolve() / Path(file).name),
            topology.dump(reveal=True),
            overrides,
        )
    )


def save(known: Known) -> None:
    """Remember a cluster, whole or not at all; what is known already is not written again."""
    if load(known.name) == known:
        return
    own_files.make_folders(folder(known.name))
    document = {"file": known.file, "topology": known.topology, "overrides": known.overrides}
    own_files.replace(folder(known.name) / "cluster.json", json.dumps(document, indent=1).encode())


def forget(name: str) -> None:
    """The cluster is down everywhere. Pinned host keys stay: the machines are the same tomorrow."""
    (folder(name) / "cluster.json").unlink(missing_ok=True)

"""What was asked for: `unit.json`, parsed once and strictly, and the names of the files beside it.

In: a unit's folder. Out: a `Unit`, or `BadUnit` with one sentence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

MARK = "DYNO_UNIT"  # <cluster>/<node>/<unit>, in the environment of every process of a unit
FOLDER_MARK = "DYNO_UNIT_DIR"  # the unit's folder: tells two clusters of one name on one machine apart
SUPERVISOR_MARK = "DYNO_SUPERVISOR"  # only supervisors carry it


class BadUnit(Exception):
    """`unit.json` is missing, or cannot be used; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class UnitDir:
    """The files of one unit. The path is absolute and free of symbolic links, for it is used as a mark."""

    path: Path

    @classmethod
    def at(cls, path: str) -> UnitDir:
        return cls(Path(os.path.realpath(Path(path).expanduser())))

    @property
    def unit(self) -> Path:
        return self.path / "unit.json"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def health(self) -> Path:
        return self.path / "health.json"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def stop(self) -> Path:
        """What a stop asked for, `{"grace_s": …}`; written before the supervisor gets its SIGTERM."""
        return self.path / "stop.json"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor as long as it lives; its content says who that is."""
        return self.path / "supervisor.lock"

    @property
    def verb_lock(self) -> Path:
        """Held by `start` and `stop` while they work: one at a time."""
        return self.path / "verb.lock"


@dataclass(frozen=True, slots=True)
class Restart:
    """How often a unit that ended by itself is started again: `max` times in `within_s` seconds."""

    max: int = 5
    within_s: float = 300.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Log:
    """When the log is rotated, and how many old parts stay."""

    max_bytes: int = 10_000_000
    keep: int = 3


@dataclass(frozen=True, slots=True)
class Unit:
    """One process to be supervised."""

    unit: str
    cluster: str
    node: str
    digest: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    backend: str = "agent"
    listens: tuple[int, ...] = ()
    stop_grace_s: float = 10.0
    restart: Restart = Restart()
    log: Log = Log()

    @property
    def mark(self) -> str:
        return f"{self.cluster}/{self.node}/{self.unit}"


def load(place: UnitDir) -> Unit:
    """The unit of a folder.

    Raises:
        BadUnit: there is no `unit.json`, it is not JSON, or a key is unknown, missing or of the wrong kind.
    """
    try:
        document = json.loads(place.unit.read_bytes())
    except FileNotFoundError:
        raise BadUnit(f"{place.unit} is not there") from None
    except OSError as error:
        raise BadUnit(f"{place.unit} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadUnit(f"{place.unit} is not JSON: {error}") from None
    try:
        return _parse(document)
    except BadUnit as error:
        raise BadUnit(f"{place.unit}: {error}") from None


def _parse(document: Any) -> Unit:
    values = _known(document, Unit, "")
    for name in ("unit", "cluster", "node", "digest", "argv"):
        if name not in values:
            raise BadUnit(f"{name} is missing")
    if "argv" in values:
        values["argv"] = tuple(_list(values["argv"], str, "argv"))
        if not values["argv"]:
            raise BadUnit("argv is empty")
    if "env" in values:
        _list(list(_object(values["env"], "env").values()), str, "env")
    if "listens" in values:
        values["listens"] = tuple(_list(values["listens"], int, "listens"))
    if "restart" in values:
        values["restart"] = Restart(**_known(values["restart"], Restart, "restart."))
    if "log" in values:
        values["log"] = Log(**_known(values["log"], Log, "log."))
    unit = Unit(**values)
    if unit.backend not in ("agent", "systemd"):
        raise BadUnit(f"backend is {unit.backend!r}, not agent or systemd")
    return unit


_SCALARS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}


def _known(document: Any, kind: type, prefix: str) -> dict[str, Any]:
    values = dict(_object(document, prefix.rstrip(".") or "it"))
    kinds = {each.name: str(each.type) for each in fields(kind)}
    for name, value in values.items():
        if name not in kinds:
            raise BadUnit(f"{prefix}{name} is not known")
        wanted = _SCALARS.get(kinds[name])
        if wanted and (isinstance(value, bool) or not isinstance(value, wanted)):
            raise BadUnit(f"{prefix}{name} is {json.dumps(value)}, not {_WORDS[kinds[name]]}")
        if kinds[name] in ("int", "float") and value < 0:
            raise BadUnit(f"{prefix}{name} is below 0")
    return values


_WORDS = {"str": "a text", "int": "a whole number", "float": "a number"}


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadUnit(f"{name} is not an object")
    return value


def _list(value: Any, kind: type, name: str) -> list[Any]:
    if not isinstance(value, list) or any(not isinstance(each, kind) or each is True for each in value):
        raise BadUnit(f"{name} holds something else than {_WORDS[kind.__name__]}")
    return value

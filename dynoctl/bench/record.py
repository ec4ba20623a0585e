"""The record of a benchmark: everything that is needed to believe its figures, or not to. JSON, with a version.

In: what was asked, found and measured. Out: `Record`, to JSON and back. A change that an older reader would
misunderstand raises `SCHEMA`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dynoctl.bench.load import Load
from dynoctl.bench.samples import Metrics
from dynoctl.bench.secrets import Secrets
from dynoctl.errors import DynoctlError

SCHEMA = 1
BYTES = "bytes"  # what stands for the tokenizer where a token is a byte


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """What measured."""

    name: str
    version: str


class UnitAt(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the cluster at one moment."""

    pid: int | None
    restarts: int
    digest: str | None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster at one moment: its processes, and the counters of its frontend."""

    generation: int = 0
    units: dict[str, UnitAt] = {}
    counters: dict[str, float] = {}


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that took part, and the versions of what runs there."""

    hostname: str
    processor: str = ""
    cores: int = 0
    memory_bytes: int = 0
    kernel: str = ""
    gpus: list[str] = []
    code: str | None = None
    python: str | None = None
    engines: dict[str, str] = {}


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One point of a sweep. `raw` is where the tool's own files are, below the record's folder."""

    load: Load
    metrics: Metrics
    command: list[str] = []
    raw: str = ""
    started: str = ""
    client_cpu: float | None = None
    before: Snapshot | None = None
    after: Snapshot | None = None
    reasons: list[str] = []

    @property
    def valid(self) -> bool:
        """Whether nothing speaks against its figures."""
        return not self.reasons


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured. `topology` is its digest; without a cluster of ours only the URL is known."""

    url: str
    model: str
    cluster: str | None = None
    generation: int | None = None
    topology: str | None = None
    gpus: int = 0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One run of `dynoctl bench`."""

    id: str
    started: str
    dynoctl: str
    command: list[str]
    tool: Tool
    target: Target
    client: Machine
    nodes: dict[str, Machine] = {}
    points: list[Point]
    tokenizer: str = ""
    interrupted: bool = False
    problem: str | None = None  # why not all of it was measured
    schema: int = SCHEMA

    @property
    def valid(self) -> bool:
        """Whether all of it can be believed."""
        whole = bool(self.points) and not self.interrupted and self.problem is None
        return whole and all(point.valid for point in self.points)

    @property
    def reasons(self) -> list[str]:
        """Everything that speaks against it, each with its point."""
        found = ["it was interrupted"] if self.interrupted else []
        found += [self.problem] if self.problem is not None else []
        several = len(self.points) > 1
        for point in self.points:
            found += [f"{point.load.label}: {why}" if several else why for why in point.reasons]
        return found


def dump(record: Record) -> bytes:
    """The file."""
    return msgspec.json.format(msgspec.json.encode(plain(record)), indent=1) + b"\n"


def plain(record: Record) -> dict[str, Any]:
    """As JSON values, with the verdict that follows from the points."""
    values: dict[str, Any] = msgspec.to_builtins(record)
    return {"schema": record.schema, "valid": record.valid, "reasons": record.reasons, **values}


def masked(record: Record, secrets: Secrets) -> Record:
    """The same without any of these secrets, wherever they stand."""
    if not secrets.values:
        return record

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return secrets.masked(value)
        if isinstance(value, list):
            return [clean(one) for one in value]
        if isinstance(value, dict):
            return {clean(name): clean(one) for name, one in value.items()}
        if isinstance(value, msgspec.Struct):  # whose fields' names are ours
            return msgspec.structs.replace(
                value, **{name: clean(getattr(value, name)) for name in value.__struct_fields__}
            )
        return value

    cleaned: Record = clean(record)
    return cleaned


def load(content: bytes, name: str) -> Record:
    """Back from the file. Raises DynoctlError where it is none, or of another version."""
    try:
        values = msgspec.json.decode(content, type=dict[str, Any])
        schema = values.get("schema")
        if schema != SCHEMA:
            raise DynoctlError(
                f"{name} is a record of schema {schema}; this dynoctl reads {SCHEMA}",
                next="read it with the dynoctl that wrote it: " + str(values.get("dynoctl")),
            )
        return msgspec.convert(values, Record)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise DynoctlError(f"{name} is no record of a benchmark: {error}") from None

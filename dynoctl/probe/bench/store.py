"""Where results are kept: a folder a run, under `~/.dynoctl/bench`.

In: a root. Out: folders, records. A record is written whole or not at all; a full disk is told as what it is.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dynoctl.bench.record import Record, dump, load
from dynoctl.bench.samples import Sample
from dynoctl.bench.secrets import Secrets
from dynoctl.errors import DynoctlError, UsageError

RECORD = "record.json"
SAMPLES = "samples.jsonl"  # a line for each request, in the folder of its point


@dataclass(frozen=True, slots=True)
class Store:
    """All results of this machine."""

    root: Path

    def begin(self, stamp: str, name: str, given: Path | None) -> Path:
        """A new folder, named by time and cluster unless one is given. Raises DynoctlError, UsageError."""
        if given is not None:
            if (given / RECORD).exists():
                raise UsageError(f"{given} holds a result already", next="another --output")
            with writing(given):
                given.mkdir(parents=True, exist_ok=True)
            return given
        with writing(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in range(1, 100):
                folder = self.root / (f"{stamp}-{name}" + (f"-{number}" if number > 1 else ""))
                try:
                    folder.mkdir()
                    return folder
                except FileExistsError:
                    continue
        raise DynoctlError(f"{self.root} has too many results of {stamp}")

    def folders(self) -> list[Path]:
        """The folders that hold a record, oldest first."""
        return sorted(path.parent for path in self.root.glob(f"*/{RECORD}"))

    def find(self, typed: str) -> Path:
        """The folder that is meant: a path, an id, the beginning of one, or `last`. Raises UsageError."""
        path = Path(typed)
        if path.name == RECORD and path.is_file():
            return path.parent
        if (path / RECORD).is_file():
            return path
        known = self.folders()
        if typed == "last" and known:
            return known[-1]
        found = [one for one in known if one.name == typed] or [
            one for one in known if one.name.startswith(typed)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"{typed!r} means several results", detail=[one.name for one in found])
        raise UsageError(f"there is no result {typed!r}", next="dynoctl bench list")


def save(folder: Path, record: Record) -> None:
    """Raises DynoctlError where it cannot be written."""
    with writing(folder):
        _whole(folder / RECORD, dump(record))


def save_samples(folder: Path, samples: list[Sample]) -> None:
    """Raises DynoctlError where they cannot be written."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _whole(folder / SAMPLES, b"".join(msgspec.json.encode(one) + b"\n" for one in samples))


def _whole(path: Path, content: bytes) -> None:
    """Write it whole or not at all. Raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def scrub(folder: Path, secrets: Secrets) -> None:
    """Take these secrets out of every file in it. Raises DynoctlError where one cannot be written."""
    if not secrets.values:
        return
    with writing(folder):
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.is_symlink():
                continue
            text = path.read_bytes().decode(errors="surrogateescape")
            clean = secrets.masked(text)
            if clean != text:
                path.write_bytes(clean.encode(errors="surrogateescape"))


def read_samples(folder: Path) -> list[Sample]:
    """None where there are none, or they cannot be read: what is drawn from them is then left out."""
    try:
        lines = (folder / SAMPLES).read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Sample) for line in lines]
    except (OSError, msgspec.MsgspecError):
        return []


def read(folder: Path) -> Record:
    """Raises DynoctlError where there is none that can be read."""
    try:
        return load((folder / RECORD).read_bytes(), f"{folder.name}/{RECORD}")
    except OSError as error:
        raise DynoctlError(f"{folder / RECORD} cannot be read: {error.strerror}") from None


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Whatever goes wrong while something is written there, in words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            why, after = "the disk is full", f"df -h {folder}"
        else:
            why, after = (error.strerror or str(error)).lower(), "--output FOLDER, which can be written"
        raise DynoctlError(f"the result cannot be written to {folder}: {why}", next=after) from None

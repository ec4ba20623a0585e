"""`python -m dyno_runtime SETTINGS.json` runs one process; `ray SETTINGS.json` runs one node of a Ray cluster;
`purge SETTINGS.json` cleans up in etcd and NATS, or in the one that is named behind it; `models SETTINGS.json …`
shows and changes what clients may ask for.

Exit status: 0 after a drain that was asked for, or when all was purged or done; 1 where it could not go on; 2 for
settings that cannot be read. What it has to say goes to standard error, one line each.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import uvloop

from dyno_runtime.clock import stamp
from dyno_runtime.settings import ProcessSettings, RayNode, SettingsError, decode, decode_ray

T = TypeVar("T")

USAGE = (
    "usage: python -m dyno_runtime [ray] SETTINGS.json, or purge SETTINGS.json [etcd] [nats], "
    "or models SETTINGS.json WORDS"
)


class Lines(logging.Formatter):
    """`2026-01-31T12:00:00.250Z WARNING registry etcd at 10.0.0.1:2379 does not answer`"""

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix("dyno.")
        line = f"{stamp(record.created)} {record.levelname} {name} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def main(argv: list[str]) -> int:
    """The whole program; returns its exit status."""
    verb = argv[0] if argv[:1] in (["purge"], ["models"], ["ray"]) else None
    files = argv[1:] if verb else argv
    words = files[1:] if verb else []
    if len(files) - len(words) != 1 or (verb == "purge" and not {"etcd", "nats"}.issuperset(words)):
        print(USAGE, file=sys.stderr)
        return 2
    log_to_stderr()
    try:
        if verb == "ray":
            return _ray(read_ray(Path(files[0])))
        settings = read(Path(files[0]))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if verb == "models":
        return _models(settings, words)
    return _purge(settings, words) if verb else _serve(settings)


def read(path: Path) -> ProcessSettings:
    """The settings in a file. Raises SettingsError, with the file's name, also where it cannot be read."""
    return _read(path, decode)


def read_ray(path: Path) -> RayNode:
    """The same of a Ray node's. Raises SettingsError."""
    return _read(path, decode_ray)


def _read(path: Path, decoded: Callable[[bytes], T]) -> T:
    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def log_to_stderr() -> None:
    """Our own lines from INFO on; of the libraries only what is worth a warning."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("dyno").setLevel(logging.INFO)
    logging.getLogger("nats").setLevel(logging.CRITICAL)


def _serve(settings: ProcessSettings) -> int:
    from dyno_runtime.roles.life import serve

    if settings.parallel.rank:
        from dyno_runtime.roles.rank import RankProcess

        return uvloop.run(serve(settings, RankProcess))
    from dyno_runtime.roles.process import Process

    return uvloop.run(serve(settings, Process))


def _ray(settings: RayNode) -> int:
    from dyno_runtime.roles.ray_node import serve

    return uvloop.run(serve(settings))


def _purge(settings: ProcessSettings, services: list[str]) -> int:
    from dyno_runtime.roles.purge import purge

    logging.getLogger("dyno").setLevel(logging.ERROR)  # what was in the way is told below, a sentence each
    purged = uvloop.run(purge(settings, services or ["etcd", "nats"]))
    print(msgspec.json.encode(purged).decode(), flush=True)
    for problem in purged.problems:
        print(problem, file=sys.stderr)
    return 1 if purged.problems else 0


def _models(settings: ProcessSettings, words: list[str]) -> int:
    from dyno_runtime.bus.base import BusError
    from dyno_runtime.roles.models import manage

    logging.getLogger("dyno").setLevel(logging.WARNING)
    try:
        told = uvloop.run(manage(settings, words))
    except BusError as error:
        print(error, file=sys.stderr)
        return 1
    print(msgspec.json.encode(told).decode(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

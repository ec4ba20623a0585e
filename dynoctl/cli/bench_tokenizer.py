"""The files of a model's tokenizer, from the node that serves it.

In: a connection, the model's folder there. Out: a folder here with tokenizer.json and what belongs to it. Kept by
content, so that a second run writes nothing.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

from dynoctl.errors import CommandFailed, DynoctlError
from dynoctl.plan.script import NodePath, words
from dynoctl.probe.bench.store import writing
from dynoctl.remote.artifacts import digest
from dynoctl.remote.connection import Connection

NAMES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "config.json",
    "chat_template.jinja",
    "tokenizer.model",
)
TIMEOUT_S = 120.0


def fetched(connection: Connection, model: str, cache: Path) -> Path:
    """The folder here. Raises DynoctlError where there is no tokenizer.json there."""
    folder = NodePath(model)
    script = (
        f"cd {words(folder)} || exit 3\n[ -f tokenizer.json ] || exit 4\n"
        f'set --; for name in {words(*NAMES)}; do [ ! -f "$name" ] || set -- "$@" "$name"; done\n'
        'exec tar -chf - "$@"'
    )
    done = connection.run(script, timeout_s=TIMEOUT_S)
    if done.status in (3, 4):
        what = "no folder" if done.status == 3 else "no tokenizer.json in"
        raise DynoctlError(
            f"{connection.node}: there is {what} {model}, so prompts cannot be measured in tokens",
            next="the same with --tokenizer FOLDER, a folder here with the model's tokenizer.json",
        )
    if done.status:
        said = done.err.decode(errors="replace").strip()
        raise CommandFailed(connection.node, f"the tokenizer in {model} cannot be read: {said}")
    return _unpacked(done.out, cache)


def _unpacked(content: bytes, cache: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {
            member.name: file.read()
            for member in archive.getmembers()
            if member.name in NAMES and (file := archive.extractfile(member)) is not None
        }
    place = cache / digest(*(part for name in sorted(files) for part in (name.encode(), files[name])))
    if not place.is_dir():
        with writing(cache):
            beside = cache / f".{place.name}.{os.getpid()}"
            beside.mkdir(parents=True)
            for name, data in files.items():
                (beside / name).write_bytes(data)
            try:
                beside.rename(place)
            except OSError:  # somebody else was faster
                shutil.rmtree(beside)
    return place

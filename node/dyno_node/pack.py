"""The node program as one file: a zip application, named by its sources.

In: the sources of this package. Out: bytes, and the digest that names them on a node. Not part of the file itself.

Beside each source lies what this Python compiled of it. A node whose Python is of the same release starts a third
faster by that; every other Python finds that it is not for it, and compiles the source.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import marshal
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path

_MAIN = b"import sys\n\nfrom dyno_node.__main__ import main\n\nsys.exit(main(sys.argv[1:]))\n"
_WHEN = (1980, 1, 1, 0, 0, 0)
_UNCHECKED_HASH = (1).to_bytes(4, "little")  # PEP 552: trust it, there is no file's time to compare
_HEADER_BYTES = 16


def pack() -> bytes:
    """The zip application. Sorted, undated and stored: compressors differ from machine to machine."""
    files = _sources()
    for name in files.keys() - {"__main__.py"}:
        if (compiled := _compiled(name)) is not None:
            files[f"{name}c"] = compiled
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _WHEN)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, content)
    return target.getvalue()


def digest() -> str:
    """The first 16 hex digits of the SHA-256 of all sources: whatever Python packs them, it is the same program."""
    whole = hashlib.sha256()
    for name, content in sorted(_sources().items()):
        whole.update(f"{name} {len(content)}\n".encode() + content)
    return whole.hexdigest()[:16]


def _sources() -> dict[str, bytes]:
    found = {f"dyno_node/{path.name}": path.read_bytes() for path in _modules()}
    return {**found, "__main__.py": _MAIN}


def _modules() -> list[Path]:
    return [path for path in Path(__file__).parent.glob("*.py") if path != Path(__file__)]


def _compiled(name: str) -> bytes | None:
    """The module as this Python compiled it, out of its cache or anew; None where it has no caches at all."""
    path = Path(__file__).parent / Path(name).name
    source = path.read_bytes()
    head = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + importlib.util.source_hash(source)
    try:
        cached = Path(importlib.util.cache_from_source(str(path))).read_bytes()
        if cached[:_HEADER_BYTES] == importlib.util.MAGIC_NUMBER + bytes(4) + _stamp(path):
            return head + cached[_HEADER_BYTES:]
    except OSError:
        pass  # not compiled yet
    except NotImplementedError:
        return None
    code = SourceFileLoader(f"dyno_node.{path.stem}", str(path)).get_code(f"dyno_node.{path.stem}")
    return head + marshal.dumps(code)


def _stamp(path: Path) -> bytes:
    """What a cache says of the source that it was made of: its time and its size."""
    found = path.stat()
    return int(found.st_mtime).to_bytes(4, "little") + (found.st_size & 0xFFFFFFFF).to_bytes(4, "little")

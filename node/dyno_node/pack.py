"""The node program as one file: a zip application with the same bytes on every machine.

In: the sources of this package. Out: bytes, and the digest that names them on a node. Not part of the file itself.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

_MAIN = b"import sys\n\nfrom dyno_node.__main__ import main\n\nsys.exit(main(sys.argv[1:]))\n"
_WHEN = (1980, 1, 1, 0, 0, 0)


def pack() -> bytes:
    """The zip application. Sorted, undated and stored: compressors differ from machine to machine."""
    folder = Path(__file__).parent
    files = {
        f"dyno_node/{path.name}": path.read_bytes() for path in folder.glob("*.py") if path != Path(__file__)
    }
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted({**files, "__main__.py": _MAIN}.items()):
            entry = zipfile.ZipInfo(name, _WHEN)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, content)
    return target.getvalue()


def digest(packed: bytes) -> str:
    """The first 16 hex digits of the SHA-256 of the packed program."""
    return hashlib.sha256(packed).hexdigest()[:16]

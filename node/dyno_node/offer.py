"""`offer FILE`: a folder's files over HTTP, to whoever has the token, until this process is ended.

In: `{"host", "port", "path", "token"}` in a file. Out, by HTTP: `/file/PATH` from any byte on, and `/sha256/PATH`.
It is a unit like others, supervised and stopped by `dynoctl`; only regular files below the folder are given.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

SILENCE_S = 60.0

Say = Callable[[str], None]
_RANGE = re.compile(r"bytes=(\d+)-")


def _silent(line: str) -> None:
    """Where nobody wants to know."""


class Offer(ThreadingHTTPServer):
    """The server. Sums are computed once for a file as it is, however many ask."""

    daemon_threads = True

    def __init__(self, host: str, port: int, folder: Path, token: str, say: Say = _silent) -> None:
        self.folder = folder.resolve()
        self.token = token
        self.say = say
        self._sums: dict[Path, tuple[tuple[int, int], str]] = {}
        self._guards: dict[Path, threading.Lock] = {}
        self._guard = threading.Lock()
        super().__init__((host, port), _Handler)

    def sha256(self, path: Path) -> str:
        """The sum of a file's content, as hex digits."""
        with self._guard:
            guard = self._guards.setdefault(path, threading.Lock())
        with guard:
            stat = path.stat()
            found = (stat.st_size, stat.st_mtime_ns)
            if path not in self._sums or self._sums[path][0] != found:
                with path.open("rb") as file:
                    self._sums[path] = (found, hashlib.file_digest(file, "sha256").hexdigest())
            return self._sums[path][1]

    def handle_error(self, request: object, client_address: object) -> None:
        """One line: receivers break off and come again."""
        self.say(f"{client_address}: {sys.exc_info()[1]!r}")


class _Handler(BaseHTTPRequestHandler):
    server: Offer
    protocol_version = "HTTP/1.1"
    timeout = SILENCE_S  # who does not read for so long is cut off

    def do_GET(self) -> None:
        """Refuse, or answer; a receiver that goes away in the middle is nothing to write home about."""
        try:
            self._answer()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _answer(self) -> None:
        given = self.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode()):
            self._refuse(HTTPStatus.UNAUTHORIZED)
            return
        _, _, rest = self.path.partition("/")
        what, _, name = rest.partition("/")
        wanted = Path(unquote(name))
        path = self.server.folder / wanted
        # A cache of the hub has links to its blobs, so only the written path counts, not where a link leads.
        outside = wanted.is_absolute() or ".." in wanted.parts
        if what not in ("file", "sha256") or outside or not path.is_file():
            self._refuse(HTTPStatus.NOT_FOUND)
        elif what == "sha256":
            self._text(self.server.sha256(path).encode())
        else:
            self._file(path)

    def _file(self, path: Path) -> None:
        found = _RANGE.fullmatch(self.headers.get("Range", "bytes=0-"))
        start = int(found[1]) if found else 0
        with path.open("rb") as file:
            size = path.stat().st_size
            self.send_response(HTTPStatus.PARTIAL_CONTENT)
            self.send_header("Content-Length", str(max(0, size - start)))
            self.end_headers()
            if start < size:
                self.wfile.flush()
                file.seek(start)
                self.connection.sendfile(file, start, size - start)

    def _text(self, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """A line a request, without the name of a resolver in it."""
        self.server.say(f"{self.client_address[0]} {format % args}")


def main(path: str, say: Say) -> int:
    """Serve until a signal ends the process; `say` gets a line a request."""
    told = json.loads(Path(path).read_text())
    with Offer(told["host"], told["port"], Path(told["path"]), told["token"], say) as server:
        say(f"offering {told['path']} on {told['host']}:{told['port']}")
        server.serve_forever()
    return 0

"""Action `fetch`: files of a folder from another node that offers them; whole and proved, or not under their names.

In: the offer's address and token, and (path, size, time at the source) of each file. Out: progress in words, then
the files, and a record of them. A file that is there in its size is compared with the source's, one that arrived in
part is gone on with; each gets its name once its SHA-256 is the source's. What was cut off is simply run again.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from dyno_node.proofs import Proofs
from dyno_node.request import Refused

STREAMS = 4
CHUNK_BYTES = 4 << 20
SILENCE_S = 60.0  # a source that sends nothing for so long has failed once
SUM_S = 3600.0  # a sum of hundreds of gigabytes takes its time
FAILURES = 6  # in a row, without a byte in between
FIRST_PAUSE_S = 0.25
SAID_EVERY_S = 2.0


class FetchRefused(Refused):
    """The files cannot be had; the message is a sentence for people."""


class _Stopped(Exception):
    """Somebody else failed."""


class Fetch:
    """One folder from one source."""

    def __init__(
        self,
        host: str,
        port: int,
        token: str,
        folder: Path,
        files: Sequence[Sequence[object]],
        record: Path,
    ) -> None:
        self._at = (host, port)
        self._headers = {"Authorization": f"Bearer {token}"}
        self._folder = folder
        self._files = [(str(name), int(str(size)), int(str(changed))) for name, size, changed in files]
        self._proofs = Proofs(record, folder)
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._arrived = 0

    def run(self) -> Iterator[str]:
        """Fetch all of them; yields how far it is.

        Raises:
            FetchRefused: the source does not give a file, or gave another one twice.
            OSError: the disk is full, or the folder may not be written.
        """
        whole = sum(size for _, size, _ in self._files)
        began = time.monotonic()
        with ThreadPoolExecutor(STREAMS) as pool:
            waiting = {pool.submit(self._file, *file) for file in self._files}
            try:
                while waiting:
                    done, waiting = wait_for(waiting, timeout=SAID_EVERY_S, return_when="FIRST_EXCEPTION")
                    for each in done:
                        each.result()
                    took_s = max(time.monotonic() - began, 1e-3)
                    yield f"{_gb(self._arrived)} of {_gb(whole)} GB, {_gb(int(self._arrived / took_s))} GB/s"
            finally:
                self._stop.set()
                pool.shutdown(cancel_futures=True)

    def _file(self, name: str, size: int, changed_ns: int) -> None:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise FetchRefused(f"{name} is no path below a folder")
        target = self._folder / name
        if self._is_there(name, target, size, changed_ns):
            self._count(size)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        for _ in range(2):
            self._download(name, size, part)
            if (sha256 := _sha256(part)) == self._sum(name):
                part.replace(target)
                self._proofs.add(name, target.stat(), changed_ns, sha256)
                return
            part.unlink()
            self._count(-size)
        raise FetchRefused(f"{self._source} sent {name} twice with other content than it has")

    def _is_there(self, name: str, target: Path, size: int, changed_ns: int) -> bool:
        """Whether the file that is there is the source's: as recorded, else by its content."""
        if not target.is_file() or (found := target.stat()).st_size != size:
            return False
        if self._proofs.has(name, found, changed_ns):
            return True
        if (sha256 := _sha256(target)) != self._sum(name):
            return False
        self._proofs.add(name, found, changed_ns, sha256)
        return True

    @property
    def _source(self) -> str:
        return f"{self._at[0]}:{self._at[1]}"

    def _download(self, name: str, size: int, part: Path) -> None:
        """Go on where `part` ends, until it is as long as the file."""
        with part.open("ab") as file:
            if file.tell() > size:
                file.truncate(0)
            had, failures, why = file.tell(), 0, ""
            self._count(had)
            while had < size:
                try:
                    self._read(name, had, file)
                except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
                    why = str(error) or type(error).__name__
                now = file.tell()
                failures = failures + 1 if now == had else 0
                had = now
                if failures >= FAILURES:
                    raise FetchRefused(f"{self._source} does not send {name}: {why or 'it ended early'}")
                if had < size and self._stop.wait(FIRST_PAUSE_S * 2**failures if failures else 0):
                    raise _Stopped
            file.flush()
            os.fsync(file.fileno())

    def _read(self, name: str, start: int, file: BinaryIO) -> None:
        connection = http.client.HTTPConnection(*self._at, timeout=SILENCE_S)
        try:
            headers = {**self._headers, "Range": f"bytes={start}-"}
            connection.request("GET", f"/file/{quote(name)}", headers=headers)
            answer = connection.getresponse()
            if answer.status != 206:
                raise FetchRefused(f"{self._source} does not give {name}: status {answer.status}")
            while chunk := answer.read1(CHUNK_BYTES):
                file.write(chunk)
                self._count(len(chunk))
                if self._stop.is_set():
                    raise _Stopped
        finally:
            connection.close()

    def _sum(self, name: str) -> str:
        """The SHA-256 of the source's file, as hex digits."""
        connection = http.client.HTTPConnection(*self._at, timeout=SUM_S)
        try:
            connection.request("GET", f"/sha256/{quote(name)}", headers=self._headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise FetchRefused(f"{self._source} does not give {name}: status {answer.status}")
            return answer.read().decode()
        except (http.client.HTTPException, OSError) as error:
            raise FetchRefused(f"{self._source} does not say the SHA-256 of a file: {error}") from None
        finally:
            connection.close()

    def _count(self, count_bytes: int) -> None:
        with self._guard:
            self._arrived += count_bytes


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _gb(count_bytes: int) -> str:
    return f"{count_bytes / 1e9:.1f}"

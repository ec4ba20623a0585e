"""A known_hosts file, read once and indexed: plain, `[host]:port`, hashed and wildcard entries, and markers.

In: the text of a file. Out: for a name, the keys that the file holds for it, each with its line number. Pure.
Finding a name costs one look-up and, where entries are hashed, one HMAC an entry; never a second reading.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from dataclasses import dataclass

_SHORT = {
    "ssh-ed25519": "ED25519",
    "ssh-rsa": "RSA",
    "ecdsa-sha2-nistp256": "ECDSA",
    "ecdsa-sha2-nistp384": "ECDSA",
    "ecdsa-sha2-nistp521": "ECDSA",
}


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public host key: its type as SSH names it, and its bytes."""

    type: str
    blob: bytes

    def __str__(self) -> str:
        """As OpenSSH prints it: `ED25519 SHA256:…`."""
        return f"{_SHORT.get(self.type, self.type)} {self.fingerprint}"

    @property
    def fingerprint(self) -> str:
        """`SHA256:` and base64 without padding."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def text(self) -> str:
        """Type and base64, as in a file."""
        return f"{self.type} {base64.b64encode(self.blob).decode()}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One key in a file. `line` counts from 1; a revoked key must never be accepted."""

    key: HostKey
    path: str
    line: int
    revoked: bool = False

    @property
    def where(self) -> str:
        """`known_hosts:12`."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class _Hashed:
    salt: bytes
    digest: bytes
    entry: Entry

    def names(self, name: str) -> bool:
        return hmac.compare_digest(hmac.digest(self.salt, name.encode(), "sha1"), self.digest)


class KnownHosts:
    """All entries of one file. Lines that are damaged, and certificate authorities, are passed over."""

    def __init__(self, path: str, text: str) -> None:
        self._plain: dict[str, list[Entry]] = {}
        self._patterns: list[tuple[tuple[str, ...], Entry]] = []
        self._hashed: list[_Hashed] = []
        self._path = path
        self._lines = 0
        for line in text.splitlines():
            self.append(line)

    def append(self, line: str) -> None:
        """Take in the file's next line."""
        self._lines += 1
        self._take(self._path, self._lines, line.split())

    def find(self, name: str) -> list[Entry]:
        """The keys of `name` (a host, or `[host]:port`), in the file's order."""
        found = list(self._plain.get(name, ()))
        found += [entry for patterns, entry in self._patterns if _matches(patterns, name)]
        found += [hashed.entry for hashed in self._hashed if hashed.names(name)]
        return sorted(found, key=lambda entry: entry.line)

    def _take(self, path: str, number: int, words: list[str]) -> None:
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or marker == "@cert-authority":
            return
        names, key_type, encoded = words[:3]
        try:
            key = HostKey(key_type, base64.b64decode(encoded, validate=True))
        except binascii.Error:
            return
        self._index(names, Entry(key, path, number, revoked=marker == "@revoked"))

    def _index(self, names: str, entry: Entry) -> None:
        if names.startswith("|1|"):
            _, _, salt, digest = [*names.split("|"), "", ""][:4]
            try:
                self._hashed.append(_Hashed(base64.b64decode(salt), base64.b64decode(digest), entry))
            except binascii.Error:
                return
            return
        each = tuple(names.lower().split(","))
        if any(set(name) & set("*?!") for name in each):
            self._patterns.append((each, entry))
            return
        for name in each:
            self._plain.setdefault(name, []).append(entry)


def _matches(patterns: tuple[str, ...], name: str) -> bool:
    """OpenSSH's rule: one pattern must match, and no negated one may. Brackets are literal there."""

    def fits(pattern: str) -> bool:
        return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))

    if any(fits(pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(fits(pattern) for pattern in patterns if not pattern.startswith("!"))

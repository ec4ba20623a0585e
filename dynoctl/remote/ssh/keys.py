"""Private keys of the person who runs dynoctl: files and the agent, in the order in which they are offered.

In: a target. Out: offers, each a key that can sign and a label for messages; and files that could not be used, why.
A key with a passphrase is used through the agent, found there by its public half; dynoctl never asks for one.
"""

from __future__ import annotations

import base64
import binascii
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from paramiko.agent import AgentKey, AgentSSH

from dynoctl.remote.target import Target

AGENT_S = 30.0  # a person may have to touch a token
_OPENSSH = b"openssh-key-v1\0"


@dataclass(frozen=True, slots=True)
class Offer:
    """One key to try. `label` is how a person knows it."""

    label: str
    key: paramiko.PKey


@dataclass(slots=True)
class Keys:
    """What there is to offer. `locked` are files with a passphrase that the agent does not hold."""

    offers: list[Offer] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    agent: bool = False


class _Agent(AgentSSH):
    """An agent at a path of our choosing, with a bound on its answers; paramiko's own knows one variable only."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(AGENT_S)
            self._socket.connect(path)
            self._connect(self._socket)  # type: ignore[attr-defined]
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]


@contextmanager
def found(target: Target) -> Iterator[Keys]:
    """The keys for `target`; those of the agent work inside the `with` only."""
    keys = Keys()
    agent = _agent(target, keys)
    try:
        _gather(target, keys, list(agent.get_keys()) if agent else [])
        yield keys
    finally:
        if agent:
            agent.close()


def _agent(target: Target, keys: Keys) -> _Agent | None:
    if target.agent is None:
        return None
    try:
        agent = _Agent(target.agent)
    except (OSError, paramiko.SSHException) as error:
        keys.unusable.append(f"the agent at {target.agent}: {_why(error)}")
        return None
    keys.agent = True
    return agent


def _gather(target: Target, keys: Keys, held: list[AgentKey]) -> None:
    """Named files first, through the agent where it holds them; then the rest of the agent."""
    waiting = {key.asbytes(): key for key in held}
    for name in target.keys:
        path = Path(name).expanduser()
        public, locked = _public_half(path)
        if public in waiting:
            keys.offers.append(Offer(f"{name} (agent)", waiting.pop(public)))
        elif locked:
            keys.locked.append(name)
        elif path.exists():
            _load(name, path, keys)
        elif target.named_keys:
            keys.unusable.append(f"{name}: no such file")
    if not target.keys_only:
        keys.offers += [Offer(f"{key.comment or 'a key'} (agent)", key) for key in waiting.values()]


def _load(name: str, path: Path, keys: Keys) -> None:
    try:
        keys.offers.append(Offer(name, paramiko.PKey.from_path(path)))
    except Exception as error:  # the readers of the many formats raise whatever they like
        keys.unusable.append(f"{name}: {_why(error)}")


def _public_half(path: Path) -> tuple[bytes | None, bool]:
    """The public key that belongs to a private key file, where it can be told, and whether that has a passphrase."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        text = ""
    public, locked = _openssh(text)
    locked = locked or "BEGIN ENCRYPTED PRIVATE KEY" in text or "Proc-Type: 4,ENCRYPTED" in text
    if public is None:
        try:
            public = base64.b64decode(
                path.with_name(f"{path.name}.pub").read_text(errors="replace").split()[1]
            )
        except (OSError, IndexError, binascii.Error):
            public = None
    return public, locked


def _openssh(text: str) -> tuple[bytes | None, bool]:
    """OpenSSH's own format keeps the public key and the cipher's name in the clear."""
    body = "".join(line for line in text.splitlines() if not line.startswith("-----"))
    if "BEGIN OPENSSH PRIVATE KEY" not in text:
        return None, False
    try:
        raw = base64.b64decode(body)
    except binascii.Error:
        return None, False
    if not raw.startswith(_OPENSSH):
        return None, False
    message = paramiko.Message(raw[len(_OPENSSH) :])
    cipher, _, _ = message.get_string(), message.get_string(), message.get_string()
    if message.get_int() != 1:
        return None, cipher != b"none"
    return message.get_string(), cipher != b"none"


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return (str(error) or type(error).__name__).rstrip(".")

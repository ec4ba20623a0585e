"""Where a node is and how to get in, as one frozen value: address, user, keys, and the hops on the way.

In: a node's host, the topology's `ssh:` settings (they win), the options of the SSH config. Out: a `Target`. Pure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dynoctl.errors import UsageError
from dynoctl.remote.ssh_config import SshConfig
from dynoctl.topology.machines import Ssh

PORT = 22
CONNECT_TIMEOUT_S = Ssh().connect_timeout_s
HOPS = 8
DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
DEFAULT_KNOWN_HOSTS = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"
_HOP = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:\[\]]+|[0-9a-fA-F:.]+)(?::(?P<port>\d+))?/?"
)


@dataclass(frozen=True, slots=True)
class Target:
    """One machine to log in to.

    `host` is as written, `hostname` what is dialled. `keys` are private key files in the order of trying;
    `named_keys` says that somebody named them, so that a missing one is worth a word. `agent` is the path of the
    agent's socket. `hops` are gone through in order, each a Target without hops of its own.
    """

    node: str
    host: str
    hostname: str
    port: int
    user: str
    keys: tuple[str, ...] = ()
    named_keys: bool = False
    keys_only: bool = False
    agent: str | None = None
    known_hosts: tuple[str, ...] = ()
    host_key_alias: str | None = None
    proxy_command: str | None = None
    hops: tuple[Target, ...] = ()
    connect_timeout_s: float = 8.0

    @property
    def where(self) -> str:
        """`10.0.0.2:22`, for messages."""
        return f"[{self.hostname}]:{self.port}" if ":" in self.hostname else f"{self.hostname}:{self.port}"

    @property
    def known_as(self) -> str:
        """The name in a known_hosts file: `[host]:port` where the port is not 22."""
        name = self.host_key_alias or self.hostname.lower()
        return name if self.port == PORT or self.host_key_alias else f"[{name}]:{self.port}"

    @property
    def login(self) -> str:
        """The command by which a person gets there: `ssh -p 2222 -i key ubuntu@10.0.0.2`."""
        words = ["ssh"]
        words += ["-p", str(self.port)] if self.port != PORT else []
        words += ["-i", self.keys[0]] if self.named_keys and self.keys else []
        words += ["-J", ",".join(f"{hop.user}@{hop.where}" for hop in self.hops)] if self.hops else []
        return " ".join([*(shlex.quote(word) for word in words), shlex.quote(f"{self.user}@{self.host}")])


@dataclass(frozen=True, slots=True)
class Person:
    """Who runs dynoctl, as far as SSH is concerned: the default user name and the agent's socket."""

    user: str
    agent: str | None = None


def resolve(node: str, host: str, settings: Ssh, config: SshConfig, person: Person) -> Target:
    """The Target of a node.

    Raises:
        UsageError: the SSH config cannot be understood, or its jumps go in a circle.
    """
    return _resolve(node, host, settings, config, person, ())


def _resolve(
    node: str, host: str, settings: Ssh, config: SshConfig, person: Person, via: tuple[str, ...]
) -> Target:
    if len(via) > HOPS or host in via:
        raise UsageError(f"{node}: the ProxyJump of {host} goes in a circle: {' → '.join([*via, host])}")
    options = config.lookup(host, user=settings.user, port=settings.port)
    jump = str(options.get("proxyjump") or "none")
    command = options.get("proxycommand")
    target = Target(
        node=node,
        host=host,
        hostname=str(options.get("hostname", host)),
        port=_number(node, host, options, "port", PORT),
        user=str(options.get("user", person.user)),
        agent=_agent(options.get("identityagent"), person.agent),
        known_hosts=_known_hosts(options),
        host_key_alias=options.get("hostkeyalias"),
        proxy_command=command if jump == "none" and command else None,
        connect_timeout_s=_connect_timeout_s(node, host, settings, options),
    )
    target = _with_keys(target, settings.key, options)
    if jump == "none":
        return target
    return replace(target, hops=_hops(node, jump, settings, config, person, (*via, host)))


def _hops(
    node: str, jump: str, settings: Ssh, config: SshConfig, person: Person, via: tuple[str, ...]
) -> tuple[Target, ...]:
    """`user@a:22,b` in order. Only the first may have a way of its own in the config, as with OpenSSH. Of the
    topology's settings the time-out is for them, too.
    """
    hops: list[Target] = []
    for number, spec in enumerate(part.strip() for part in jump.split(",")):
        found = _HOP.fullmatch(spec)
        if found is None:
            raise UsageError(f"{node}: ProxyJump {spec!r} is not of the form [user@]host[:port]")
        port = int(found["port"]) if found["port"] else None
        own = Ssh(user=found["user"], port=port, connect_timeout_s=settings.connect_timeout_s)
        hop = _resolve(node, found["host"].strip("[]"), own, config, person, via)
        hops += [*(hop.hops if number == 0 else ()), replace(hop, hops=())]
    return tuple(hops)


def _with_keys(target: Target, key: str | None, options: Mapping[str, Any]) -> Target:
    """The topology's key goes first, then those of the config; the default ones only where none is named."""
    named = [key] if key else []
    named += [str(name) for name in options.get("identityfile", []) if name != "none"]
    return replace(
        target,
        keys=tuple(dict.fromkeys(named or DEFAULT_KEYS)),
        named_keys=bool(named),
        keys_only=str(options.get("identitiesonly", "no")).lower() == "yes",
    )


def _agent(option: str | None, default: str | None) -> str | None:
    if option is None or option == "SSH_AUTH_SOCK":
        return default
    return None if option == "none" else str(Path(option).expanduser())


def _known_hosts(options: Mapping[str, Any]) -> tuple[str, ...]:
    user = str(options.get("userknownhostsfile", DEFAULT_KNOWN_HOSTS))
    system = str(options.get("globalknownhostsfile", SYSTEM_KNOWN_HOSTS))
    names = [*shlex.split(user), *shlex.split(system)]
    return tuple(str(Path(name).expanduser()) for name in names if name not in ("none", "/dev/null"))


def _connect_timeout_s(node: str, host: str, settings: Ssh, options: Mapping[str, Any]) -> float:
    """The topology's, where it says so; else the config's; else the topology's default."""
    if settings.connect_timeout_s != CONNECT_TIMEOUT_S:
        return settings.connect_timeout_s
    return float(_number(node, host, options, "connecttimeout", 0) or settings.connect_timeout_s)


def _number(node: str, host: str, options: Mapping[str, Any], key: str, default: int) -> int:
    try:
        return int(options.get(key, default))
    except ValueError:
        raise UsageError(
            f"{node}: the SSH config says {key} {options[key]!r} for {host}, which is not a number",
            next=f"ssh -G {shlex.quote(host)}",
        ) from None

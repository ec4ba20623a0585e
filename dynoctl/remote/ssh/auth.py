"""Logging in: offer keys one after the other until the node takes one, and say exactly what was tried if it does not.

In: a transport whose host key is verified. Out: a transport that is logged in, or AuthRefused.
"""

from __future__ import annotations

import paramiko

from dynoctl.errors import AuthRefused
from dynoctl.remote.ssh import failures
from dynoctl.remote.ssh.keys import Keys, Offer, found
from dynoctl.remote.target import Target

AUTH_S = 30.0  # the other side may ask a slow directory service


def log_in(transport: paramiko.Transport, target: Target) -> None:
    """Authenticate as `target.user`. Raises AuthRefused, Unreachable."""
    transport.auth_timeout = AUTH_S
    with found(target) as keys:
        tried: list[str] = []
        for offer in keys.offers:
            verdict = _offer(transport, target, offer)
            if verdict is None:
                return
            tried.append(f"{offer.label} ({offer.key.fingerprint}): {verdict}")
            if not transport.is_active():
                tried.append("the node then closed the connection: too many keys were offered")
                break
        raise _refused(target, keys, tried)


def _offer(transport: paramiko.Transport, target: Target, offer: Offer) -> str | None:
    """None where the key opened the door, else why not."""
    try:
        more = transport.auth_publickey(target.user, offer.key)
    except paramiko.BadAuthenticationType as error:
        return f"keys are not accepted here, only {', '.join(error.allowed_types)}"
    except paramiko.AuthenticationException as error:
        if "timeout" in str(error).lower():
            raise failures.silent(target, AUTH_S) from error
        return "refused"
    except (paramiko.SSHException, OSError) as error:
        if transport.is_active():
            return f"could not be used ({error})"  # the agent did not sign
        return "refused"
    return f"accepted, but the node also wants {', '.join(more)}" if more else None


def _refused(target: Target, keys: Keys, tried: list[str]) -> AuthRefused:
    locked = [f"{name}: has a passphrase, and {_agent(keys)}" for name in keys.locked]
    if keys.locked and not tried:
        return AuthRefused(
            target.node,
            f"the key {keys.locked[0]} has a passphrase, and {_agent(keys)}",
            detail=[*locked[1:], *keys.unusable],
            next=f"ssh-add {keys.locked[0]}"
            if keys.agent
            else f'eval "$(ssh-agent)" && ssh-add {keys.locked[0]}',
        )
    if not tried:
        return AuthRefused(
            target.node,
            f"there is no key to offer to {target.where}",
            detail=keys.unusable or [f"{name}: no such file" for name in target.keys],
            next="ssh-keygen -t ed25519",
        )
    many = "the key" if len(tried) == 1 else f"any of {len(keys.offers)} keys"
    return AuthRefused(
        target.node,
        f"{target.where} does not let user {target.user} in with {many} that we have",
        detail=[*tried, *locked, *keys.unusable],
        next=f"ssh-add {keys.locked[0]}" if keys.locked else target.login.replace("ssh ", "ssh -v ", 1),
    )


def _agent(keys: Keys) -> str:
    return "the agent does not hold it" if keys.agent else "no agent runs"

"""How far one request has got, and what a failure means for it.

In: what happened to the attempt that runs. Out: `Retry` with the state to go on from, or `GiveUp` with the
failure that the caller is told. A request is retried only while nothing of its answer was passed on, unless it can
be resumed: then it has as many attempts again whenever it has got further.
"""

from __future__ import annotations

import msgspec

from dyno_runtime.wire.messages import Failure, LeaseId

MAX_ATTEMPTS = 4

# These say that the peer did not do the work; everything else would fail elsewhere, too.
_RETRYABLE = frozenset({"peer_lost", "draining", "not_here", "not_ready", "overloaded"})


class Session(msgspec.Struct, frozen=True, gc=False):
    """A request on its way. `begun`: some of the answer was passed on."""

    attempts: int = 0
    excluded: frozenset[LeaseId] = frozenset()
    begun: bool = False
    pinned: bool = False  # the caller named the instance, so no other will do
    resumable: bool = False  # another instance can go on from where this one was


class Retry(msgspec.Struct, frozen=True):
    """Try again with this state, on an instance that is not excluded."""

    session: Session


class GiveUp(msgspec.Struct, frozen=True):
    """Tell the caller."""

    failure: Failure


def sent(session: Session) -> Session:
    """An attempt was sent."""
    return Session(session.attempts + 1, session.excluded, session.begun, session.pinned, session.resumable)


def answered(session: Session) -> Session:
    """A first piece of the answer came and was passed on."""
    return Session(begun=True, pinned=session.pinned, resumable=session.resumable)


def failed(session: Session, instance: LeaseId, failure: Failure) -> Retry | GiveUp:
    """The attempt at `instance` ended with `failure`."""
    final = (session.begun and not session.resumable) or session.pinned or session.attempts >= MAX_ATTEMPTS
    if final or failure.code not in _RETRYABLE:
        return GiveUp(failure)
    return Retry(msgspec.structs.replace(session, excluded=session.excluded | {instance}))

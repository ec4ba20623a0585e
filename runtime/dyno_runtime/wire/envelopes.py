"""What a frame holds: a list of envelopes. `Open` and `Item` carry a body, which is one of `wire.messages`.

Arrays with a number as tag, as the messages are.
"""

from __future__ import annotations

from dyno_runtime.wire.messages import Address, Body, Delta, Failure, LeaseId, Struct


class Hello(Struct, frozen=True, tag=1):
    """The first envelope on a connection, both ways. `stream` is where the sender listens."""

    cluster: str
    lease: LeaseId
    stream: Address


class Ping(Struct, frozen=True, tag=2):
    """Nothing to say, still here."""


class Open(Struct, frozen=True, tag=3):
    """The dialling or the accepting side opens a call; `call` is unique among the calls of that side."""

    call: int
    body: Body


class Item(Struct, frozen=True, tag=4):
    """One piece of the answer to the receiver's call."""

    call: int
    body: Body


class End(Struct, frozen=True, tag=5):
    """The answer to the receiver's call is over; nothing follows for it."""

    call: int
    failure: Failure | None = None


class Cancel(Struct, frozen=True, tag=6):
    """The sender of `Open` wants no more of it; the other side forgets the call and answers nothing."""

    call: int


class Step(Struct, frozen=True, tag=7):
    """The outputs of one engine step, or of several: `deltas[i]` answers the receiver's call `calls[i]`.

    A delta with `finish` is the last of its call: no `End` follows.
    """

    calls: list[int]
    deltas: list[Delta]


Envelope = Hello | Ping | Open | Item | End | Cancel | Step

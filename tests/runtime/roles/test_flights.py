"""Answers that go on elsewhere, over the bus in memory: workers that die, connections that break, callers that leave.

Whatever happens: an answer that ends well is the one that an undisturbed worker gives, token for token; every answer
ends exactly once; every count of what is in flight returns to zero.
"""

from __future__ import annotations

import asyncio

import pytest

from dyno_runtime.core.blocks import block_hashes, salt
from dyno_runtime.roles.flight import Flight, Order
from dyno_runtime.wire.messages import Body, Delta, Failure, Token
from dyno_runtime.wire.sampling import Sampling
from tests.runtime.roles.test_simulated import Member, Sim, cluster, settled
from tests.sim.virtual import play

TOKENS = 60


class Caller:
    """One answer."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.finish: str | None = None
        self.ends: list[Failure | None] = []

    def item(self, body: Body) -> None:
        assert isinstance(body, Delta)
        assert not self.ends
        assert self.finish is None
        self.tokens += body.tokens
        self.finish = body.finish

    def end(self, failure: Failure | None) -> None:
        self.ends.append(failure)


def send(front: Member, number: int, caller: Caller) -> Flight:
    tokens = list(f"prompt {number} is longer than one block".encode())
    root = salt("hello")
    sampling = Sampling(max_tokens=TOKENS, ignore_eos=True, seed=number)
    blocks = block_hashes(tokens, 16, root)
    flight = front.dispatcher.send(
        Order(f"r-{front.lease}-{number}-{id(caller)}", "hello", tokens, sampling, salt=root, blocks=blocks),
        caller,
    )
    flight.start()
    return flight


def at_rest(sim: Sim) -> bool:
    """Nothing is in flight in any process that lives, and no KV block is in use."""
    living = [one for one in sim.members if one.address in sim.network.listening]
    blocks = sum(one.engine.stats().active_blocks for one in living)
    told = sum(len(one.dispatcher.steering._told) for one in living)
    return not any(one.in_flight for one in living) and blocks == told == 0


async def undisturbed(front: Member, numbers: int) -> list[list[Token]]:
    callers = [Caller() for _ in range(numbers)]
    for number, caller in enumerate(callers):
        send(front, number, caller)
    await settled(lambda: all(one.ends for one in callers))
    assert {tuple(one.ends) for one in callers} == {(None,)}
    return [one.tokens for one in callers]


async def a_worker_dies(seed: int) -> None:
    sim = Sim(seed, delay_s=(0.0, 0.003))
    sim.kind = "mock"
    front, workers = await cluster(sim)
    callers = [Caller() for _ in range(30)]
    for number, caller in enumerate(callers):
        send(front, number, caller)
    await settled(lambda: sum(len(one.tokens) for one in callers) > sim.rng.uniform(0.1, 0.6) * 30 * TOKENS)
    workers[sim.rng.randrange(3)].crash()
    await settled(lambda: all(one.ends for one in callers))
    assert [one.ends for one in callers] == [[None]] * 30
    assert [one.tokens for one in callers] == await undisturbed(front, 30)
    assert {one.finish for one in callers} == {"length"}
    await settled(lambda: at_rest(sim))
    await sim.close()


@pytest.mark.parametrize("first", range(0, 40, 20))
def test_a_worker_dies_in_the_middle_and_no_token_changes(first: int) -> None:
    play(a_worker_dies, range(first, first + 20))


async def connections_break_and_callers_leave(seed: int) -> None:
    sim = Sim(seed, delay_s=(0.0, 0.002), loss=0.0005)
    sim.kind = "mock"
    front, _ = await cluster(sim)
    callers = [Caller() for _ in range(40)]
    flights = [send(front, number, caller) for number, caller in enumerate(callers)]
    left = set(sim.rng.sample(range(40), 12))
    for number in left:
        await asyncio.sleep(sim.rng.uniform(0, 0.01))
        flights[number].cancel()
        flights[number].cancel()
    stay = [caller for number, caller in enumerate(callers) if number not in left]
    await settled(lambda: all(one.ends for one in stay))
    sim.network.loss = 0.0
    await settled(lambda: at_rest(sim))
    right = await undisturbed(front, 40)
    whole = 0
    for number, caller in enumerate(callers):
        assert len(caller.ends) <= 1
        assert caller.tokens == right[number][: len(caller.tokens)]
        whole += caller.ends == [None] and len(caller.tokens) == TOKENS
        if caller.ends and caller.ends[0] is not None:
            assert caller.ends[0].code in ("peer_lost", "no_worker")
    assert whole >= 10
    await settled(lambda: at_rest(sim))
    await sim.close()


@pytest.mark.parametrize("first", range(0, 40, 20))
def test_connections_that_break_and_callers_that_leave_leave_nothing_behind(first: int) -> None:
    play(connections_break_and_callers_leave, range(first, first + 20))

"""KV that a prefill worker keeps for a while: fetched in time, or not at all; and only where both ends agree."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dyno_runtime.engine.base import BadJob, Job, Output
from dyno_runtime.wire.messages import Ask, Body, Failure, Generate, Prefilled, Text
from tests.runtime.roles.test_simulated import Member, Sim, settled


class Answer:
    """One request's: who prefilled, and how it ended."""

    def __init__(self) -> None:
        self.prefill: str | None = None
        self.ends: list[Failure | None] = []

    def item(self, body: Body) -> None:
        assert isinstance(body, Text)
        self.prefill = self.prefill or body.prefill

    def end(self, failure: Failure | None) -> None:
        self.ends.append(failure)


class Pair:
    """A decode and a prefill worker, whose engine keeps KV for `lease_s`; `got` is what decode's engine was given."""

    def __init__(self, sim: Sim, lease_s: float) -> None:
        self.sim = sim
        self.lease_s = lease_s
        self.got: list[Any] = []

    async def start(self, **terms: dict[str, str]) -> None:
        self.front = await self.sim.add()
        self.decode, self.prefill = await self.sim.add("decode"), await self.sim.add("prefill")
        await self.sim.add("router")
        generate = self.decode.engine.generate

        def noted(job: Job, emit: Any = None) -> None:
            self.got.append(job.kv)
            generate(job, emit)

        async def prefilled(job: Job) -> dict[str, Any]:
            return {"params": {"for": job.id}, "lease_s": self.lease_s}

        self.decode.engine.generate, self.prefill.engine.prefill = noted, prefilled
        await settled(lambda: self.front.view.view.counts() == {"decode": 1, "prefill": 1, "router": 1})

    async def ask(self) -> str | None:
        answer = Answer()
        self.front.dispatcher.open_ask(Ask("r", "a prompt"), answer)
        await settled(lambda: answer.ends)
        assert answer.ends == [None]
        return answer.prefill


@pytest.fixture
def sim() -> Sim:
    return Sim(11)


def place(member: Member) -> str:
    return member.around.place


async def test_kv_in_time_is_fetched(sim: Sim) -> None:
    pair = Pair(sim, lease_s=30.0)
    await pair.start()
    assert await pair.ask() == f"remote:{place(pair.prefill)}"
    assert [(kv or {}).get("lease_s") for kv in pair.got] == [30.0]
    await sim.close()


async def test_kv_that_would_be_fetched_near_the_end_of_its_lease_is_computed_again(
    sim: Sim, caplog: pytest.LogCaptureFixture
) -> None:
    """The decode worker stands still for so long that blocks which may be another request's would be read."""
    pair = Pair(sim, lease_s=5.2)
    await pair.start()
    prefilling = pair.decode.parts[0]._prefilling  # type: ignore[attr-defined]
    arrive = prefilling._on_prefilled

    def then_stand_still(prefilled: Prefilled, reply: Any) -> None:
        arrive(prefilled, reply)
        time.sleep(0.3)

    pair.decode.peers.on(Prefilled, then_stand_still)
    assert await pair.ask() == "local"
    assert pair.got == [None]
    assert f"the KV of {place(pair.prefill)} came too late; prefilling here" in caplog.text
    await sim.close()


async def test_workers_whose_terms_differ_say_so_and_decode_goes_on_alone(sim: Sim) -> None:
    pair = Pair(sim, lease_s=30.0)
    await pair.start()
    decode, prefill = pair.decode, pair.prefill
    decode.engine.terms, prefill.engine.terms = {"vllm": "0.32.0"}, {"vllm": "0.31.0"}
    for member in (decode, prefill):
        member.announce()
    await settled(lambda: decode.parts[0].problem)
    assert decode.parts[0].problem == (
        f"n{prefill.lease}/u-0 cannot prefill for this worker: vllm is 0.32.0 at decode and 0.31.0 at prefill"
    )
    assert await pair.ask() == "local"
    await sim.close()


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (RuntimeError("boom"), "engine", "the engine failed on this request; its log says why"),
        (BadJob("no"), "bad_request", "no"),
    ],
    ids=["broken", "refused"],
)
async def test_an_engine_that_raises_ends_the_request_and_not_the_connection(
    sim: Sim, raised: Exception, code: str, message: str
) -> None:
    front, decode = await sim.add(), await sim.add("decode")

    def raises(job: Job, emit: Any = None) -> None:
        raise raised

    decode.engine.generate = raises
    answer = Answer()
    front.peers.open(decode.address, Generate("r", [1, 2]), answer)
    await settled(lambda: answer.ends)
    (failure,) = answer.ends
    assert failure is not None
    assert (failure.code, failure.message) == (code, message)
    assert decode.parts[0].in_flight == 0
    await sim.close()


async def test_an_output_that_blames_the_job_is_the_clients_mistake(sim: Sim) -> None:
    front, decode = await sim.add(), await sim.add("decode")

    def refuses(job: Job, emit: Any = None) -> None:
        decode.engine.deliver([Output([], "error", "the prompt is too long", job, bad=True)])

    decode.engine.generate = refuses
    answer = Answer()
    front.peers.open(decode.address, Generate("r", [1, 2]), answer)
    await settled(lambda: answer.ends)
    assert answer.ends == [Failure("bad_request", "the prompt is too long")]
    await sim.close()

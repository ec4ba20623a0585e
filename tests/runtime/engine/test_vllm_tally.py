"""What vLLM says of its steps, as the engine protocol wants it."""

from __future__ import annotations

from types import SimpleNamespace

from dyno_runtime.engine.vllm.tally import Tally


def step(*finished: tuple[str, int, float]) -> SimpleNamespace:
    """One in which these requests ended: name, tokens of the prompt, seconds of their prefill."""
    ended = [
        SimpleNamespace(
            request_id=name,
            num_prompt_tokens=count,
            num_cached_tokens=0,
            prefill_time=took_s,
            queued_time=0.0,
        )
        for name, count, took_s in finished
    ]
    prompts = SimpleNamespace(computed=0, local_cache_hit=0, external_kv_transfer=0)
    return SimpleNamespace(prompt_token_stats=prompts, num_preempted_reqs=0, finished_requests=ended)


def test_kv_from_elsewhere_says_nothing_of_how_fast_this_engine_prefills() -> None:
    tally = Tally()
    tally.take_step(step(("own", 1000, 2.0)))
    tally.brought.add("brought")
    tally.take_step(step(("brought", 1000, 0.001)))
    assert (tally.stats(0).prefill_tokens_per_s, tally.brought) == (500.0, set())


def test_blocks_in_use_are_not_counted_as_cached() -> None:
    tally = Tally()
    tally.total_blocks = 10
    tally.take_scheduler(
        0,
        SimpleNamespace(num_running_reqs=1, num_waiting_reqs=0, kv_cache_usage=0.3, kv_connector_stats=None),
    )
    found = [tally.stats(0, held) for held in (0, 2, 7)]
    assert [(one.active_blocks, one.cached_blocks) for one in found] == [(3, 0), (3, 0), (3, 4)]

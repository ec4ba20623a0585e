"""What vLLM says of itself after each step, kept as the engine protocol wants it: load now, totals since the start.

In: the statistics of its scheduler and of one step. Out: `Stats`, `Totals`, waits. One engine rank or several (data
parallel) report; the load is the sum over them.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from dyno_runtime.engine.base import Stats, Totals

MAX_WAITS = 4096
SMOOTHING = 0.2  # of the newest measured prefill


class _Load(msgspec.Struct):
    running: int = 0
    waiting: int = 0
    usage: float = 0.0


class Tally:
    """See the module."""

    def __init__(self, *, sends: bool = False) -> None:
        self._sends = sends  # what it transfers goes to others
        self.total_blocks = 0  # of all ranks; known once the engine is loaded
        # Requests whose KV came from elsewhere: their prefill says nothing of how fast this engine is.
        self.brought: set[str] = set()
        self._ranks: dict[int, _Load] = {}
        self._totals = dict.fromkeys(Totals.__struct_fields__, 0)
        self._waits: deque[float] = deque(maxlen=MAX_WAITS)
        self._prefill_tokens_per_s = 0.0

    def take_scheduler(self, rank: int, stats: Any) -> None:
        """The state of one rank's scheduler after a step."""
        load = self._ranks.setdefault(rank, _Load())
        load.running = stats.num_running_reqs
        load.waiting = stats.num_waiting_reqs + getattr(stats, "num_skipped_waiting_reqs", 0)
        load.usage = stats.kv_cache_usage
        if stats.kv_connector_stats:
            self._take_transfers(stats.kv_connector_stats)

    def take_step(self, stats: Any) -> None:
        """What one step did."""
        prompts = stats.prompt_token_stats
        self._add("computed_tokens", prompts.computed)
        self._add("local_cache_hit_tokens", prompts.local_cache_hit)
        self._add("external_kv_transfer_tokens", prompts.external_kv_transfer)
        self._add("preemptions", stats.num_preempted_reqs)
        for one in stats.finished_requests:
            self._waits.append(max(0.0, one.queued_time))
            if one.request_id in self.brought:
                self.brought.discard(one.request_id)
                continue
            computed = one.num_prompt_tokens - one.num_cached_tokens
            if computed > 0 and one.prefill_time > 0:
                self._measured(computed / one.prefill_time)

    def lost(self, request: str) -> None:
        """Its KV was to come from elsewhere, and did not."""
        self.brought.discard(request)
        self._add("failed_kv_transfers", 1)

    def stats(self, queued_tokens: int, held_blocks: int = 0) -> Stats:
        """The load now; `queued_tokens` are of prompts without a first token, `held_blocks` are known by name.

        vLLM does not say which of the blocks in use have one: at least the rest of them is only cached.
        """
        loads = list(self._ranks.values())
        usage = sum(load.usage for load in loads) / max(len(loads), 1)
        active = round(usage * self.total_blocks)
        return Stats(
            running=sum(load.running for load in loads),
            waiting=sum(load.waiting for load in loads),
            queued_tokens=queued_tokens,
            active_blocks=active,
            cached_blocks=max(0, held_blocks - active),
            total_blocks=self.total_blocks,
            prefill_tokens_per_s=self._prefill_tokens_per_s,
        )

    def totals(self) -> Totals:
        """Since the start."""
        return Totals(**self._totals)

    def take_waits(self) -> list[float]:
        """Since the last call."""
        waits = list(self._waits)
        self._waits.clear()
        return waits

    def _take_transfers(self, stats: Any) -> None:
        """NIXL's record of what it moved; several connectors at once have one each, by name."""
        for data in (stats, *(one for one in stats.values() if isinstance(one, dict))):
            moved = data.get("bytes_transferred")
            if isinstance(moved, list):
                self._add("kv_sent_bytes" if self._sends else "kv_received_bytes", int(sum(moved)))
                self._add("kv_transfers", 0 if self._sends else len(moved))
                failed = ("num_failed_transfers", "num_failed_handshakes")
                self._add("failed_kv_transfers", int(sum(sum(data.get(key, ())) for key in failed)))

    def _measured(self, tokens_per_s: float) -> None:
        before = self._prefill_tokens_per_s or tokens_per_s
        self._prefill_tokens_per_s = before + SMOOTHING * (tokens_per_s - before)

    def _add(self, name: str, amount: int) -> None:
        self._totals[name] += amount

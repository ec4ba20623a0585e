"""Gauges of a process and of its engine, and counters that the engine keeps: read when somebody looks.

In: the meter, and what is to be read. Out: nothing; the meter is up to date.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from dyno_runtime.clock import uptime_s
from dyno_runtime.core.view import View
from dyno_runtime.engine.base import Counting, Engine
from dyno_runtime.metrics import names
from dyno_runtime.metrics.kinds import Meter
from dyno_runtime.settings import ProcessSettings

_STARTED_S = uptime_s()


def measure_process(
    meter: Meter, settings: ProcessSettings, view: View, up: Mapping[str, bool], *, registered: bool
) -> None:
    """Who it is, what it costs, whom it sees."""
    roles = ",".join(settings.roles)
    meter.values(names.INFO).put(1, settings.cluster, settings.node, settings.unit, roles)
    meter.values(names.UPTIME).put(round(uptime_s() - _STARTED_S, 3))
    meter.values(names.CPU).put(time.process_time())
    meter.values(names.RESIDENT).put(_resident_bytes())
    meter.values(names.REGISTERED).put(int(registered))
    for service, answers in up.items():
        meter.values(names.BUS_UP).put(int(answers), service)
    instances = meter.values(names.INSTANCES)
    instances.values = {(role,): count for role, count in view.counts().items()}


def measure_engine(meter: Meter, engine: Engine, state: str) -> None:
    """How loaded it is, and what it did so far."""
    stats = engine.stats()
    meter.values(names.ENGINE_READY).put(int(state == "ready"))
    requests, blocks = meter.values(names.ENGINE_REQUESTS), meter.values(names.KV_BLOCKS)
    requests.put(stats.running, "running")
    requests.put(stats.waiting, "waiting")
    meter.values(names.QUEUED_TOKENS).put(stats.queued_tokens)
    blocks.put(stats.active_blocks, "active")
    blocks.put(stats.cached_blocks, "cached")
    blocks.put(stats.total_blocks, "total")
    if not isinstance(engine, Counting):
        return
    totals = engine.totals()
    meter.histogram(names.QUEUE).observe_all(engine.take_waits())
    sourced = meter.values(names.SOURCED_TOKENS)
    sourced.put(totals.computed_tokens, "computed")
    sourced.put(totals.local_cache_hit_tokens, "local_cache_hit")
    sourced.put(totals.external_kv_transfer_tokens, "external_kv_transfer")
    meter.values(names.PREEMPTIONS).put(totals.preemptions)
    meter.values(names.KV_SENT).put(totals.kv_sent_bytes)
    meter.values(names.KV_RECEIVED).put(totals.kv_received_bytes)
    transfers = meter.values(names.TRANSFERS)
    transfers.put(totals.kv_transfers, "received")
    transfers.put(totals.failed_kv_transfers, "failed")


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

"""The two clocks that the runtime shows to the world.

Decisions get the time as a parameter, and waits use the event loop's own time, so that a simulation may
replace it; this file is only for what people and other programs read.
"""

from __future__ import annotations

import time


def uptime_s() -> float:
    """Seconds since this machine booted, sleep included: comparable between its processes, never set back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def stamp(wall_s: float) -> str:
    """Wall-clock time in UTC for a log line, `2026-01-31T12:00:00.250Z`."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall_s))
    return f"{whole}.{int(wall_s % 1 * 1000):03d}Z"


def wall_s() -> float:
    """Seconds since 1970: what OpenAI's `created` is."""
    return time.time()

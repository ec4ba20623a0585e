"""Whether and when a unit that ended by itself is started again. Pure: time and chance come in.

In: the policy, when it crashed so far, now. Out: seconds to wait, or None for giving up.
"""

from __future__ import annotations

from collections.abc import Sequence

from dyno_node.unit import Restart

JITTER = 0.25  # units that fell together do not come back together


def next_wait_s(policy: Restart, crashes_s: Sequence[float], now_s: float, chance: float) -> float | None:
    """How long to wait before the next start.

    Args:
        crashes_s: when it crashed, the last crash included; seconds on the clock of `now_s`.
        chance: a random number from 0 to 1.

    Returns:
        `first_wait_s`, doubled for every earlier crash within the window, at most `longest_wait_s`, a quarter
        more or less; None once more than `max` crashes lie within the window.
    """
    recent = sum(1 for crash_s in crashes_s if now_s - crash_s <= policy.within_s)
    if recent > policy.max:
        return None
    wait_s = min(policy.longest_wait_s, policy.first_wait_s * 2.0 ** min(recent - 1, 30))
    return wait_s * (1 - JITTER + 2 * JITTER * chance)

"""May KV travel from a prefill worker to a decode worker? And if so, is there time enough to fetch it?

In: the terms that both registered, the lease that the prefill worker gave. Out: why not, a sentence, or None.
"""

from __future__ import annotations

from collections.abc import Mapping

from dyno_runtime.settings import LEASE_MARGIN

Terms = Mapping[str, str]

# May differ, within limits; all else has to be the same.
_APART = ("tp", "kv_heads", "block_size")
MARGIN_AT_LEAST_S = 5.0


def mismatch(decode: Terms, prefill: Terms) -> str | None:
    """Why not. Engines that have no terms need no agreement."""
    if not decode and not prefill:
        return None
    for name in sorted({*decode, *prefill} - set(_APART)):
        here, there = decode.get(name, "unknown"), prefill.get(name, "unknown")
        if here != there:
            return f"{name} is {here} at decode and {there} at prefill"
    return _blocks(decode, prefill) or _split(decode, prefill)


def _blocks(decode: Terms, prefill: Terms) -> str | None:
    here, there = int(decode.get("block_size", 0)), int(prefill.get("block_size", 0))
    if here == there or (0 < there < here and here % there == 0):
        return None
    return (
        f"block_size is {here} at decode and {there} at prefill; decode's has to be a multiple of prefill's"
    )


def _split(decode: Terms, prefill: Terms) -> str | None:
    here, there = int(decode.get("tp", 1)), int(prefill.get("tp", 1))
    if max(here, there) % min(here, there):
        return f"tp is {here} at decode and {there} at prefill; one has to be a multiple of the other"
    heads = int(prefill.get("kv_heads", 0))
    if there > here and there > heads:
        return f"tp is {here} at decode and {there} at prefill, which has only {heads} KV heads to split"
    return None


def too_late(lease_s: float, passed_s: float) -> bool:
    """Whether KV that was kept for `lease_s`, so long ago, must not be fetched any more.

    One that is fetched after its end is read from blocks that may be another request's, and nobody would notice.
    """
    return lease_s - passed_s < max(lease_s * LEASE_MARGIN, MARGIN_AT_LEAST_S)

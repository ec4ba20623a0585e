"""The last minute of a cluster, as lines for people and as JSON.

In: `plan.figures`. Out: lines, and values with stable keys; nothing is printed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from dynoctl.plan.figures import Figures, Spread

WIDTH = 15


def figures_lines(found: Figures) -> Iterator[str]:
    """What is known, a subject a line; nothing of what nobody measured."""
    title = "last minute" if found.seconds >= 60 else f"last {found.seconds:.0f} s"
    yield _line(title, _rates(found))
    times = [
        f"{name} {milliseconds(spread.p50_s)} p50, {milliseconds(spread.p99_s)} p99"
        for name, spread in (
            ("first token", found.first_token),
            ("between tokens", found.between_tokens),
            ("queue", found.queue),
            ("answer", None if found.first_token else found.request),
        )
        if spread is not None
    ]
    if times:
        yield _line("times", "; ".join(times))
    if kv := _kv(found):
        yield _line("KV cache", kv)
    if prefills := _prefills(found):
        yield _line("prefill", prefills)
    if found.retries or found.migrations or found.rejections:
        yield _line("trouble", _trouble(found))
    if found.planned is not None and (said := _planned(found.planned)):
        yield _line("planner", said)


def _line(title: str, text: str) -> str:
    return f"{title:<{WIDTH}}{text}"


def _rates(found: Figures) -> str:
    parts = [f"{found.requests_per_s:,.1f} requests/s"]
    if found.tokens_per_s:
        parts.append(f"{found.tokens_per_s:,.0f} tokens/s")
    return ", ".join([*parts, f"{found.in_flight} in flight"])


def _kv(found: Figures) -> str:
    parts = []
    if found.kv_use is not None:
        parts.append(f"{found.kv_use:.0%} in use")
    if found.cached_share is not None:
        parts.append(f"{found.cached_share:.0%} of prompt tokens were cached")
    return ", ".join(parts)


def _prefills(found: Figures) -> str:
    parts = []
    if found.remote_prefill_share is not None:
        parts.append(f"{found.remote_prefill_share:.0%} were remote")
    if found.prefill_queue is not None:
        parts.append(f"{found.prefill_queue} in the queue")
    return ", ".join(parts)


def _trouble(found: Figures) -> str:
    parts = []
    if found.rejections:
        reasons = ", ".join(f"{reason} {count}" for reason, count in found.rejections.items())
        parts.append(f"{sum(found.rejections.values())} rejected ({reasons})")
    if found.retries:
        parts.append(f"{found.retries} retried at another worker")
    if found.migrations:
        parts.append(f"{found.migrations} went on at another worker")
    return ", ".join(parts)


def _planned(told: dict[str, Any]) -> str | None:
    """What the planner wishes for; None where another version wrote it."""
    try:
        decision = told["decision"]
        wishes = [(role, decision[role]) for role in ("decode", "prefill") if decision[role] is not None]
        changes = [
            f"would have {_workers(wish['wish'], role)} instead of {wish['now']}, as {wish['why']}"
            for role, wish in wishes
            if wish["wish"] != wish["now"]
        ]
        kept = ", ".join(_workers(wish["now"], role) for role, wish in wishes)
        said = "; ".join(changes) or f"would keep {kept}"
        at = datetime.fromisoformat(told["at"])
        return f"{said} (at {at:%Y-%m-%d %H:%M:%S} UTC; it only watches)"
    except (KeyError, TypeError, ValueError):
        return None


def _workers(count: int, role: str) -> str:
    return f"{count} {role} worker" + ("" if count == 1 else "s")


def milliseconds(seconds: float) -> str:
    """`0.42 ms`, `8.1 ms`, `120 ms`, `3.4 s`."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    value = seconds * 1000
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms" if value >= 1 else f"{value:.2f} ms"


def document(found: Figures | None) -> dict[str, Any] | None:
    """The same values for programs; None where no process told anything."""
    if found is None:
        return None

    def spread(one: Spread | None) -> dict[str, Any] | None:
        return None if one is None else {**_rounded(asdict(one))}

    plain = {
        key: spread(value) if isinstance(value, Spread) else value
        for key, value in ((name, getattr(found, name)) for name in found.__slots__)
    }
    return _rounded(plain)


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in values.items()}

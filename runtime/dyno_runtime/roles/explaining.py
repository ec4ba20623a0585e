"""Where a prompt would go, and why, as the JSON object of `/debug/route`. In: a chooser, a request. Out: a dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dyno_runtime.core.chooser import Chooser, Refusal
from dyno_runtime.core.policies import Request
from dyno_runtime.wire.messages import LeaseId


def explained(chooser: Chooser, request: Request, places: Mapping[LeaseId, str]) -> dict[str, Any]:
    """The choice, the reason, and how every worker stands. Nothing is remembered."""
    choice, standings = chooser.explain(request)
    worker, matched = (None, 0) if isinstance(choice, Refusal) else (choice.worker, choice.matched)
    return {
        "model": request.model,
        "policy": chooser.policy,
        "worker": None if worker is None else places.get(worker, worker),
        "why": choice.why,
        "tokens": request.tokens,
        "matched_tokens": matched * chooser.block_size,
        "blocks": len(request.blocks),
        "block_size": chooser.block_size,
        "known_blocks": len(chooser.index),
        "in_flight": len(chooser.loads),
        "workers": [
            {
                "worker": places.get(one.worker, one.worker),
                "lease": one.worker,
                "score": one.score,
                "out": one.out,
                "matched_tokens": one.matched * chooser.block_size,
                "held_blocks": one.held,
                "running": one.running,
                "waiting": one.waiting,
                "queued_tokens": one.queued_tokens,
                "usage": round(one.usage, 4),
            }
            for one in standings
        ],
    }

"""How KV gets from a prefill engine to a decode engine through NIXL: vLLM's configuration, and what goes with a job.

In: the process's settings. Out: values for vLLM. What a prefill hands over (`kv` in the engine protocol) is
`{"params": vLLM's own, "lease_s": how long its blocks are kept from now}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from dyno_runtime.engine.base import EngineError
from dyno_runtime.settings import ProcessSettings, Transfer

CONNECTORS = {"nixl": "NixlConnector", "nixl-push": "NixlPushConnector"}
PREFILL_PARAMS = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}


def transfer_config(settings: ProcessSettings, engine_id: str) -> dict[str, Any] | None:
    """vLLM's `kv_transfer_config`; None where no KV travels. Raises EngineError.

    `engine_id` is new at each start: a peer that still knows the one before must not take us for it. All ranks of an
    engine have the same: peers shake hands with each of them, and refuse one of another name than its head's.
    """
    transfer = settings.transfer
    if transfer is None:
        return None
    if transfer.connector not in CONNECTORS:
        raise EngineError(
            f"disagg.connector is {transfer.connector!r}; this engine knows {' and '.join(CONNECTORS)}"
        )
    made: dict[str, Any] = {
        "kv_connector": CONNECTORS[transfer.connector],
        "kv_role": "kv_producer" if "prefill" in settings.roles else "kv_consumer",
        "engine_id": engine_id,
        # What does not arrive is computed here; the counters of prompt tokens say so.
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {"kv_lease_duration": ceil(transfer.lease_s)},
    }
    if settings.engine.device == "cpu":
        made["kv_buffer_device"] = "cpu"
    return made


def side_channel(transfer: Transfer) -> dict[str, str]:
    """Where peers ask this engine for its metadata, as vLLM reads it from the environment."""
    return {
        "VLLM_NIXL_SIDE_CHANNEL_HOST": transfer.side_channel.host,
        "VLLM_NIXL_SIDE_CHANNEL_PORT": str(transfer.side_channel.port),
    }


def pushed_within_s(transfer: Transfer | None, kv: Mapping[str, Any] | None) -> float | None:
    """How long a decode engine waits for KV that is pushed to it. None where it fetches it: then vLLM sees a failure.

    In half of what is left of the lease there is time for two handshakes, and for a while without room.
    """
    if transfer is None or transfer.connector != "nixl-push" or kv is None:
        return None
    return float(kv["lease_s"]) / 2


def handed_over(params: Mapping[str, Any] | None, lease_s: float) -> dict[str, Any]:
    """What a decode worker is told of a finished prefill. Raises EngineError where vLLM kept nothing for it."""
    if not params or not params.get("do_remote_prefill"):
        raise EngineError("vLLM kept no KV of this prefill for the decode worker")
    return {"params": dict(params), "lease_s": lease_s}

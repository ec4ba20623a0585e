"""What a Ray cluster has: its nodes that live and their GPUs, asked of Ray's head.

In: an address. Out: `RayView`s. Ray's own client runs in a process of its own, as it takes a second to import and
ends its process where it loses the cluster: `python -m dyno_runtime.roles.ray_view ADDRESS` prints a line of JSON now
and at every change, until its reader or the cluster is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import sys
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from dyno_runtime.engine.base import EngineError

log = logging.getLogger("dyno.ray")

LOOK_S = 1.0
AGAIN_S = 0.5


class RayView(msgspec.Struct, frozen=True):
    """The nodes that live, by address, with the GPUs of each."""

    gpus: dict[str, int]

    def missing(self, nodes: int, gpus: int) -> str | None:
        """`has 8 of 16 GPUs, on 1 of 2 nodes`; None where nothing is missing."""
        has = sum(self.gpus.values())
        if has >= gpus and len(self.gpus) >= nodes:
            return None
        return f"has {has} of {gpus} GPUs, on {len(self.gpus)} of {nodes} nodes"


def need_ray() -> None:
    """Raises EngineError where this Python environment has no Ray."""
    if importlib.util.find_spec("ray") is None:
        raise EngineError(f"there is no Ray in the Python environment of {sys.executable}; install ray there")


async def views(address: str) -> AsyncGenerator[RayView]:
    """What the cluster has, now and at every change; ends when Ray cannot be asked any more."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dyno_runtime.roles.ray_view", address),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        while line := await process.stdout.readline():
            yield msgspec.json.decode(line, type=RayView)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def whole(address: str, nodes: int, gpus: int, waits: Callable[[str | None], None]) -> None:
    """Wait until the cluster has so many nodes and GPUs. `waits` is told what is missing, and None at the end."""
    need_ray()
    waits(f"waits for Ray at {address}")
    while True:
        found = views(address)
        async for view in found:
            missing = view.missing(nodes, gpus)
            if missing is None:
                log.info(
                    "Ray at %s has %d GPUs on %d nodes", address, sum(view.gpus.values()), len(view.gpus)
                )
                waits(None)
                await found.aclose()
                return
            waits(f"waits for Ray at {address}, which {missing}")
        await asyncio.sleep(AGAIN_S)


# ---- the process that asks -----------------------------------------------------------------------------


def main(address: str) -> None:
    """Print what the cluster at `address` has, whenever it changes."""
    state = _state(address)
    told = None
    while True:
        nodes = [node for node in state.node_table() if node["Alive"]]
        view = RayView({node["NodeManagerAddress"]: int(node["Resources"].get("GPU", 0)) for node in nodes})
        if view != told:
            told = view
            print(msgspec.json.encode(view).decode(), flush=True)
        time.sleep(LOOK_S)


def _state(address: str) -> Any:
    """What `ray status` uses: it needs no driver, which would start processes in the cluster."""
    from ray._private.state import GlobalState  # type: ignore[import-not-found, unused-ignore]
    from ray._raylet import GcsClientOptions  # type: ignore[import-not-found, unused-ignore]

    state = GlobalState()
    state._initialize_global_state(
        GcsClientOptions.create(address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False)
    )
    return state


if __name__ == "__main__":
    main(sys.argv[1])

"""One node of the Ray cluster of one worker: `ray start --block` with ports and a folder of its own, and its proof.

In: `RayNode` settings. Out: an exit status, 0 after a stop that was asked for. Every process that Ray starts here is
a descendant of this one, so that stopping the unit ends this Ray and no other on the machine. A node that joins waits
for the head. The head counts nodes and GPUs: it is ready when all are there, and ends when one is lost, so that the
cluster forms anew as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import sys
from pathlib import Path

from dyno_runtime.engine.base import EngineError
from dyno_runtime.roles.health import EngineState, Health, HealthFile, RoleHealth
from dyno_runtime.roles.ray_view import need_ray, views
from dyno_runtime.settings import RayNode

log = logging.getLogger("dyno.ray")

KNOCK_S = 1.0
STOP_S = 12.0
AGAIN_S = 1.0
# Of all RAM, Ray would take a third for objects; what engines hand one another through it is small.
OBJECT_STORE_BYTES = 500_000_000
# Whoever works on this Ray is stopped before it, so that there is nothing to drain.
ENV = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}


class RayProcess:
    """See the module. `serve` is the life; `stop` asks it to end."""

    def __init__(self, settings: RayNode) -> None:
        self.settings = settings
        self._ending = asyncio.Event()
        self._state: EngineState = "loading"
        self._problem: str | None = None
        self._ray: asyncio.subprocess.Process | None = None
        self._health = HealthFile(Path(settings.health_path), self._look)

    async def serve(self) -> int:
        """Start, run until told to stop or unable to go on, shut down; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        self._health.start()
        work, asked = loop.create_task(self._run()), loop.create_task(self._ending.wait())
        failed = False
        try:
            await asyncio.wait((work, asked), return_when=asyncio.FIRST_COMPLETED)
            if work.done() and (error := work.exception()) is not None:
                failed = True
                self._state = "failed"
                self._note(str(error))
                log.error("%s", error)
        finally:
            for task in (work, asked):
                task.cancel()
            await asyncio.gather(work, asked, return_exceptions=True)
            await self._stop_ray()
            shutil.rmtree(self.settings.folder, ignore_errors=True)
            self._health.stop()
        log.info("ended")
        return 1 if failed else 0

    async def _run(self) -> None:
        settings = self.settings
        need_ray()
        shutil.rmtree(settings.folder, ignore_errors=True)  # of a session that was killed
        Path(settings.folder).mkdir(mode=0o700, parents=True)
        if not settings.is_head:
            await self._knock()
        self._ray = await asyncio.create_subprocess_exec(
            *argv(settings),
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, **ENV, "RAY_TMPDIR": settings.folder},
        )
        watch = asyncio.ensure_future(self._count())
        gone = asyncio.ensure_future(self._ray.wait())
        try:
            await asyncio.wait((watch, gone), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise EngineError(f"Ray ended on this node, status {gone.result()}; its last lines are above")
            watch.result()
        finally:
            for task in (watch, gone):
                task.cancel()

    async def _knock(self) -> None:
        """Wait until the head answers; whoever starts Ray before that has it fail."""
        head = self.settings.head
        self._note(f"waits for Ray's head at {head.host}:{head.port}")
        while True:
            try:
                async with asyncio.timeout(KNOCK_S):
                    _, writer = await asyncio.open_connection(head.host, head.port)
                writer.close()
                return
            except (OSError, TimeoutError):
                await asyncio.sleep(AGAIN_S)

    async def _count(self) -> None:
        """Know what the cluster has. A joined node is content with being there; the head wants all, and for good."""
        settings = self.settings
        address = f"{settings.head.host}:{settings.head.port}"
        while True:
            async for view in views(address):
                gpus = settings.nodes * settings.gpus
                missing = view.missing(settings.nodes, gpus)
                if not settings.is_head:
                    missing = None if settings.address in view.gpus else "does not know this node yet"
                if missing is None:
                    if self._state != "ready":
                        log.info(
                            "Ray at %s has %d GPUs on %d nodes",
                            address,
                            sum(view.gpus.values()),
                            len(view.gpus),
                        )
                    self._state = "ready"
                    self._note(None)
                    continue
                if self._state == "ready":
                    raise EngineError(f"Ray at {address} {missing}, and had all; it starts anew as one")
                self._note(f"Ray at {address} {missing}")
            await asyncio.sleep(AGAIN_S)

    async def _stop_ray(self) -> None:
        """Ask Ray to end, which takes its processes along; what is left is the supervisor's to end."""
        ray = self._ray
        if ray is None or ray.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            ray.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await ray.wait()
        except TimeoutError:
            log.warning("Ray does not end within %.0f s", STOP_S)

    def _note(self, problem: str | None) -> None:
        self._problem = problem
        self._health.changed()

    def _look(self) -> Health:
        node = RoleHealth(port=True, registered=True, engine=self._state, lease="", problem=self._problem)
        return Health(
            unit=self.settings.unit, pid=os.getpid(), beat_s=0.0, roles={"ray": node}, sees={}, bus={}
        )


def argv(settings: RayNode) -> list[str]:
    """The command that is this node. Ray's workers take free ports: fixed ones would meet those of another Ray."""
    head = f"{settings.head.host}:{settings.head.port}"
    place = ["--head", f"--port={settings.head.port}", "--include-dashboard=false", "--disable-usage-stats"]
    if settings.client_port is not None and importlib.util.find_spec("grpc") is not None:
        # With gRPC there, Ray serves its client, which nobody uses; two heads on a node must not meet.
        place.append(f"--ray-client-server-port={settings.client_port}")
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
        *(place if settings.is_head else [f"--address={head}"]),
        f"--node-ip-address={settings.address}",
        f"--num-gpus={settings.gpus}",
        f"--node-manager-port={settings.node_port}",
        f"--object-manager-port={settings.object_port}",
        f"--runtime-env-agent-port={settings.agent_port}",
        *("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"),
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        f"--temp-dir={settings.folder}",
    ]


async def serve(settings: RayNode) -> int:
    """Run one node of a Ray cluster; the exit status."""
    return await RayProcess(settings).serve()

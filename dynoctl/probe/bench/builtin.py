"""The tool `builtin`: the generator of our own, in this process, on one core.

In: a job. Out: what was measured.
"""

from __future__ import annotations

import asyncio
import gc
import os
from importlib.metadata import version
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from dynoctl.bench.record import Tool
from dynoctl.bench.samples import metrics
from dynoctl.bench.secrets import shown
from dynoctl.errors import UsageError
from dynoctl.probe.bench import http
from dynoctl.probe.bench.generator import Generator, Outcome
from dynoctl.probe.bench.interrupts import Interrupts, interrupts
from dynoctl.probe.bench.orders import Envelope, Orders, Replay, Synthetic
from dynoctl.probe.bench.tool import Job, Measured, OnProgress
from dynoctl.probe.bench.trace import read
from dynoctl.probe.bench.writer import ByteWriter, TokenWriter, Writer

KEY = "OPENAI_API_KEY"


class Builtin:
    """See the module."""

    tool = Tool(name="builtin", version=version("dynoctl"))

    def __init__(self) -> None:
        self._writers: dict[Path | None, Writer] = {}

    def measure(self, job: Job, on_progress: OnProgress) -> Measured:
        """One point."""
        import uvloop

        if job.extra:
            raise UsageError(
                f"builtin takes no arguments of its own: {' '.join(shown(job.extra))}", next="--tool aiperf"
            )
        url = urlsplit(job.url)
        with interrupts() as interrupted:
            orders = self._orders(job, url)
            gc.collect()
            gc.disable()  # a pause of the client would be a pause of the server in the figures
            try:
                outcome = uvloop.run(_run(job, url, orders, on_progress, interrupted))
            finally:
                gc.enable()
        return Measured(
            samples=outcome.samples,
            metrics=metrics(outcome.samples, outcome.duration_s, job.load.slo, job.gpus),
            cpu=outcome.cpu,
            interrupted=outcome.interrupted,
            warm_errors=outcome.warm_errors,
            warm=outcome.warm,
        )

    def _orders(self, job: Job, url: SplitResult) -> Orders:
        writer = self._writers.setdefault(job.tokenizer, writer_of(job.tokenizer))
        envelope = Envelope(url, job.model, os.environ.get(KEY))
        if job.load.trace is not None:
            return Replay(read(Path(job.load.trace)), job.load, writer, envelope)
        return Synthetic(job.load, writer, envelope)


def writer_of(tokenizer: Path | None) -> Writer:
    """Who writes prompts."""
    return ByteWriter() if tokenizer is None else TokenWriter(tokenizer)


async def _run(
    job: Job, url: SplitResult, orders: Orders, on_progress: OnProgress, interrupted: Interrupts
) -> Outcome:
    generator = Generator(
        url, orders, job.load, on_progress, job.silence_s, on_warm=lambda: http.counted(job.url)
    )
    loop = asyncio.get_running_loop()
    interrupted.then(lambda: loop.call_soon_threadsafe(generator.stop))
    return await generator.run()

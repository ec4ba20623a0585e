"""aiperf and genai-perf behind the seam: their command, their process, their files.

In: a job. Out: what was measured, as the tool itself says it. Its files stay where it wrote them, and are named where
they cannot be read.
"""

from __future__ import annotations

import os
import re
import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import msgspec

from dynoctl.bench import aiperf, genai_perf
from dynoctl.bench.aiperf import Parsed
from dynoctl.bench.load import Load
from dynoctl.bench.record import Tool
from dynoctl.errors import DynoctlError, Interrupted
from dynoctl.probe.bench import http
from dynoctl.probe.bench.builtin import Builtin
from dynoctl.probe.bench.environment import Environment
from dynoctl.probe.bench.process import LOG, Ended, last_words, run
from dynoctl.probe.bench.store import writing
from dynoctl.probe.bench.tokens import byte_folder, counter
from dynoctl.probe.bench.tool import Job, Measured, OnProgress
from dynoctl.probe.bench.trace import read

SERVER_S = 2.0  # between two questions to the server


@dataclass(frozen=True)
class External:
    """What both have in common. `tokenizers` is where the tokenizer of bytes is kept for them."""

    tool: Tool
    environment: Environment
    tokenizers: Path

    def measure(self, job: Job, on_progress: OnProgress) -> Measured:
        """Run it and read its files."""
        job = replace(job, tokenizer=job.tokenizer or byte_folder(self.tokenizers))
        warm_errors = self.warm_up(job, on_progress)
        warm = http.counted(job.url)
        command = aiperf.with_extra(self.command(job), job.extra)
        sign = Signs(job, self.done, on_progress)
        ended = run(command, job.folder, self.variables(), sign, job.silence_s, self.polls)
        try:
            parsed = self.parsed(job)
        except FileNotFoundError as error:
            raise self._failed(job, ended, f"there is no {Path(error.filename).name}") from None
        except (KeyError, TypeError, ValueError, IndexError, OSError, msgspec.MsgspecError) as error:
            raise self._failed(job, ended, f"{type(error).__name__}: {error}") from None
        if ended.code and not ended.interrupted and not parsed.metrics.errors:
            raise self._failed(job, ended, "")
        return Measured(
            samples=parsed.samples,
            metrics=parsed.metrics,
            command=command,
            cpu=ended.busiest(parsed.window_ns),
            interrupted=ended.interrupted,
            warm_errors=[*warm_errors, *parsed.warm_errors],
            exact=self.exact,
            warm=warm,
        )

    exact = True  # whether tokens are as the server counts them
    telling: ClassVar[re.Pattern[str]]  # lines of its log that say what went wrong, among its tracebacks
    polls = ""  # the name of a process of it that takes what CPU there is while it waits

    @abstractmethod
    def command(self, job: Job) -> list[str]: ...

    @abstractmethod
    def parsed(self, job: Job) -> Parsed: ...

    @abstractmethod
    def variables(self) -> dict[str, str]: ...

    def warm_up(self, job: Job, on_progress: OnProgress) -> list[str]:
        """What is done before it, where it does not warm up itself; errors of that."""
        return []

    def done(self, folder: Path) -> tuple[int, int] | None:
        """Requests of the warm-up and measured ones that are over; None where it does not say."""
        return None

    def _failed(self, job: Job, ended: Ended, why: str) -> DynoctlError:
        """What to say where there is no result."""
        name = f"{self.tool.name} {self.tool.version}"
        words = [*last_words(job.folder, telling=self.telling), f"its files are kept in {job.folder}"]
        log = f"less {job.folder / LOG}"
        if ended.interrupted:
            return Interrupted(f"interrupted; {name} wrote no result of this point", detail=words[-1:])
        if ended.stuck:
            message = f"{name} did nothing for {job.silence_s:g} s and was ended"
            return DynoctlError(message, detail=words, next=log)
        if ended.code:
            how = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
            return DynoctlError(f"{name} ended with {how}", detail=words, next=log)
        return DynoctlError(
            f"{name} wrote what this dynoctl cannot read: {why}",
            detail=words[-1:],
            next="--tool builtin, and please report it with these files",
        )


class Signs:
    """Signs of life of a tool: its files grow, or the server answers requests. Tells the progress, too."""

    def __init__(
        self, job: Job, done: Callable[[Path], tuple[int, int] | None], on_progress: OnProgress
    ) -> None:
        self._job = job
        self._done = done
        self._on_progress = on_progress
        self._asked_s = 0.0
        self._tokens: dict[str, float] = {}

    def __call__(self) -> object:
        job = self._job
        done = self._done(job.folder)
        if done is not None:
            warm, measured = done
            if measured or warm >= job.load.warmup:
                self._on_progress(False, min(measured, job.load.requests), job.load.requests, 0)
            else:
                self._on_progress(True, warm, job.load.warmup, 0)
        sizes = []
        for path in sorted(job.folder.rglob("*")):
            try:
                sizes.append(path.stat().st_size)
            except OSError:  # it came and went
                continue
        if time.monotonic() - self._asked_s > SERVER_S:
            self._asked_s = time.monotonic()
            # Others count the very questions for their counters.
            self._tokens = {name: n for name, n in http.counted(job.url).items() if "token" in name}
        return (done, sizes, self._tokens)


class Aiperf(External):
    """aiperf."""

    telling = re.compile(r"^[\d:.]+ ERROR ")
    polls = "aiperf timing_m"  # its timing_manager, as the kernel cuts the name

    def command(self, job: Job) -> list[str]:
        program = self.environment.program("aiperf")
        trace = None if job.load.trace is None else str(_replayed(job))
        return aiperf.argv(program, job.url, job.model, str(job.tokenizer), job.load, str(job.folder), trace)

    def variables(self) -> dict[str, str]:
        # It takes a folder for a hub id where these are set.
        unset = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        return {name: value for name, value in os.environ.items() if name not in unset}

    def done(self, folder: Path) -> tuple[int, int] | None:
        try:
            with (folder / aiperf.REQUESTS).open() as lines:
                return aiperf.done(lines)
        except OSError:
            return None

    def parsed(self, job: Job) -> Parsed:
        requests = (job.folder / aiperf.REQUESTS).read_text()
        summary = job.folder / aiperf.SUMMARY
        told = summary.read_text() if summary.exists() else None
        return aiperf.parse(requests, told, job.load, job.gpus)


@dataclass(frozen=True)
class GenaiPerf(External):
    """genai-perf. `binaries` is a folder that comes first on its PATH, where it finds perf_analyzer."""

    binaries: Path | None = None
    telling = re.compile(r"had error: |^Error: |^No valid requests")
    exact = False

    def command(self, job: Job) -> list[str]:
        program = self.environment.program("genai-perf")
        return genai_perf.argv(program, job.url, job.model, str(job.tokenizer), job.load, str(job.folder))

    def variables(self) -> dict[str, str]:
        own = [str(self.environment.folder / "bin"), os.environ.get("PATH", "")]
        path = ":".join([str(self.binaries), *own] if self.binaries else own)
        return {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

    def warm_up(self, job: Job, on_progress: OnProgress) -> list[str]:
        if not job.load.warmup:
            return []
        load = replace(job.load, requests=job.load.warmup, warmup=0, seed=job.load.seed + 1_000_000)

        def warming(_: bool, done: int, total: int, tokens: int) -> None:
            on_progress(True, done, total, tokens)

        measured = Builtin().measure(replace(job, load=load, extra=()), warming)
        if measured.interrupted:
            raise Interrupted("interrupted in the warm-up; nothing was measured of this point")
        return [one.error for one in measured.samples if one.error]

    def parsed(self, job: Job) -> Parsed:
        found = sorted(job.folder.rglob(genai_perf.SUMMARY))
        if not found:
            raise FileNotFoundError(2, "no such file", genai_perf.SUMMARY)
        requests = (found[0].parent / genai_perf.REQUESTS).read_text()
        count = counter(job.tokenizer) if job.tokenizer is not None else len
        return genai_perf.parse(requests, found[0].read_text(), job.load, job.gpus, count)


def _replayed(job: Job) -> Path:
    """The trace as it is to be replayed: so many requests, so fast, the first one at once."""
    load: Load = job.load
    place = job.folder / "trace.jsonl"
    rows = read(Path(load.trace or ""))[: load.requests]
    lines = [
        msgspec.json.encode(
            msgspec.structs.replace(row, timestamp=(row.timestamp - rows[0].timestamp) / load.trace_speed)
        )
        for row in rows
    ]
    with writing(job.folder):
        job.folder.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"\n".join(lines) + b"\n")
    return place

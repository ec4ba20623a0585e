"""The seam to what measures. `builtin`, `aiperf` and `genai-perf` stand behind it.

In: a job, which is one point. Out: what was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dynoctl.bench.load import Load
from dynoctl.bench.record import Tool
from dynoctl.bench.samples import Metrics, Sample

OnProgress = Callable[[bool, int, int, int], None]  # warming up?, answered, of how many, tokens so far


@dataclass(frozen=True, slots=True)
class Job:
    """One point, measured against `url`. `tokenizer` is a model folder, None where a token is a byte; the tool's own
    files go to `folder`. `silence_s`: how long it may do nothing before it counts as stuck."""

    url: str
    model: str
    load: Load
    folder: Path
    tokenizer: Path | None = None
    gpus: int = 0
    extra: tuple[str, ...] = ()
    silence_s: float = 300.0


@dataclass
class Measured:
    """What came of it. `cpu` is the share of one core of the client's busiest process while it was measured."""

    samples: list[Sample]
    metrics: Metrics
    command: list[str] = field(default_factory=list)
    cpu: float | None = None
    interrupted: bool = False
    warm_errors: list[str] = field(default_factory=list)
    exact: bool = True  # whether tokens are as the server counted them
    warm: dict[str, float] | None = (
        None  # the server's counters behind the warm-up, where it was not the tool's own
    )


class Instrument(Protocol):
    """Something that measures."""

    @property
    def tool(self) -> Tool:
        """Its name and version."""

    def measure(self, job: Job, on_progress: OnProgress) -> Measured:
        """Do it. Ctrl-C ends it early, with what was measured by then.

        Raises:
            DynoctlError: it could not be run, ended badly, got stuck, or wrote what cannot be read.
        """

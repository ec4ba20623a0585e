"""One run of `dynoctl bench`: its points, one after the other, and what becomes of them.

In: what was typed, what is measured. Out: a record that is on the disk after each point, and says so if it is not
whole. Keys that were typed stand in nothing that is written.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from dynoctl.bench import validity
from dynoctl.bench.counters import with_counters
from dynoctl.bench.load import SEED, Load
from dynoctl.bench.record import BYTES, Point, Record, masked
from dynoctl.bench.secrets import Secrets, shown
from dynoctl.cli import known
from dynoctl.cli.bench_app import Asked
from dynoctl.cli.bench_report import report
from dynoctl.cli.bench_subject import Subject
from dynoctl.cli.bench_tell import tell
from dynoctl.cli.session import now
from dynoctl.errors import DynoctlError, Interrupted
from dynoctl.probe.bench.interrupts import interrupts
from dynoctl.probe.bench.machine import this_machine
from dynoctl.probe.bench.seeds import Seeds
from dynoctl.probe.bench.store import Store, save, save_samples, scrub
from dynoctl.probe.bench.tool import Instrument, Job, Measured
from dynoctl.show.bench.progress import Progress, progress
from dynoctl.show.terminal import NobodyReads, Terminal


def store() -> Store:
    """Where results are kept."""
    return Store(known.home() / "bench" / "results")


@dataclass
class Run:
    """One run of the verb. `made` are the folders that were not there before it."""

    asked: Asked
    subject: Subject
    loads: tuple[Load, ...]
    terminal: Terminal
    instrument: Instrument
    tokenizer: Path | None
    folder: Path
    started: str
    secrets: Secrets
    made: list[Path]
    measured: list[Point] = field(default_factory=list)
    interrupted: bool = False
    record: Record = field(init=False)

    @classmethod
    def of(cls, asked: Asked, found: Subject, loads: tuple[Load, ...], terminal: Terminal) -> Run:
        """Everything that can fail before the first request does so here."""
        from dynoctl.cli.bench_tools import choose

        instrument, tokenizer = choose(asked, found, loads, terminal)
        seeds, target = Seeds(known.home() / "bench" / "seeds.json"), found.target
        seed = seeds.take(target.url, target.model, len(loads), first=SEED, typed=asked.seed)
        started = now()
        stamp = started.replace("-", "").replace(":", "").replace("T", "-").rstrip("Z")
        name = target.cluster or "url"
        given = Path(asked.output) if asked.output else None
        theirs = given is not None and given.exists()
        folder = store().begin(stamp, name, given)
        seeded = tuple(replace(load, seed=seed + load.seed) for load in loads)
        secrets = Secrets.of([*sys.argv[1:], *asked.tool_args])
        made = [] if theirs else [folder]
        run = cls(asked, found, seeded, terminal, instrument, tokenizer, folder, started, secrets, made)
        run.record = run._recorded()
        return run

    def carry_out(self) -> DynoctlError | None:
        """All points; what went wrong in the middle, so that what was measured before it is not lost."""
        with interrupts() as pressed, progress(self.terminal) as shown_on:
            for number, load in enumerate(self.loads):
                if self.interrupted or pressed.pressed:
                    self.interrupted = True
                    break
                shown_on.begin(load.label)
                try:
                    self._measure(number, load, shown_on)
                    save(self.folder, self.record)
                except DynoctlError as error:
                    self.interrupted = self.interrupted or isinstance(error, Interrupted)
                    return self._without_secrets(error)
        return None

    def _without_secrets(self, error: DynoctlError) -> DynoctlError:
        """The same error, also where the last words of a tool are in it."""
        error.message = self.secrets.masked(error.message)
        error.detail = tuple(self.secrets.masked_line(line) for line in error.detail)
        return error

    def _measure(self, number: int, load: Load, shown_on: Progress) -> None:
        raw = f"point-{number}"
        target = self.subject.target
        started, before = now(), self.subject.snapshot()
        job = Job(
            url=target.url,
            model=target.model,
            load=load,
            folder=self.folder / raw,
            tokenizer=self.tokenizer,
            gpus=target.gpus,
            extra=self.asked.tool_args,
            silence_s=self.asked.silence_s,
        )
        if not job.folder.exists():
            self.made.append(job.folder)
        try:
            measured = self.instrument.measure(job, shown_on.update)
        finally:
            scrub(job.folder, self.secrets)
        self.interrupted = measured.interrupted
        after = self.subject.snapshot()
        # Where nobody answered behind the warm-up, what was before it has to do.
        counted = measured.warm or before.counters
        figures = with_counters(measured.metrics, counted, after.counters)
        evidence = validity.Evidence(
            load, figures, measured.samples, measured.cpu, before, after, measured.exact
        )
        self.measured.append(
            Point(
                load=load,
                metrics=figures,
                command=shown(measured.command),
                raw=raw,
                started=started,
                client_cpu=measured.cpu,
                before=before,
                after=after,
                reasons=[*validity.reasons(evidence), *_warm(measured)],
            )
        )
        self.record = self._recorded()
        save_samples(job.folder, measured.samples)

    def _recorded(self, problem: DynoctlError | None = None) -> Record:
        record = Record(
            id=self.folder.name,
            started=self.started,
            dynoctl=version("dynoctl"),
            command=["dynoctl", *shown(sys.argv[1:])],
            tool=self.instrument.tool,
            target=self.subject.target,
            client=this_machine(),
            nodes=self.subject.machines() if not self.measured else self.record.nodes,
            points=list(self.measured),
            tokenizer=str(self.tokenizer) if self.tokenizer else BYTES,
            interrupted=self.interrupted,
            problem=self._missing(problem),
        )
        return masked(record, self.secrets)

    def _missing(self, problem: DynoctlError | None) -> str | None:
        """Why this is not all that was asked for."""
        why = problem.message if problem is not None else None
        if len(self.measured) == len(self.loads):
            return why
        short = f"only {len(self.measured)} of {len(self.loads)} points were measured"
        return f"{short}: {why}" if why is not None else short

    def finish(self, problem: DynoctlError | None) -> None:
        """Keep what was measured, then tell it. A disk that is full takes the files, not the figures.

        Raises:
            DynoctlError: it was told, but cannot be kept.
        """
        if not self.measured:
            self._remove_made()
            return
        self.record = self._recorded(problem)
        unsaved = None
        try:
            save(self.folder, self.record)
        except DynoctlError as error:
            unsaved = error
        kept = self.folder if unsaved is None else None
        tell(self.record, kept, self.terminal, json=self.asked.json)
        if unsaved is not None:
            raise unsaved
        if self.asked.report and problem is None:
            tool = getattr(self.instrument, "environment", None)
            page = report(self.folder, self.record, tool, self.terminal)
            if not self.asked.json:
                with contextlib.suppress(NobodyReads):
                    self.terminal.result(f"report      {page}")

    def _remove_made(self) -> None:
        """The folders of a run that measured nothing, where nothing is in them."""
        for place in reversed(self.made):
            with contextlib.suppress(OSError):
                place.rmdir()


def _warm(measured: Measured) -> list[str]:
    if not measured.warm_errors:
        return []
    return [f"{len(measured.warm_errors)} requests of the warm-up failed: {measured.warm_errors[0]}"]

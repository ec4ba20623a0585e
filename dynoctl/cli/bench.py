"""`dynoctl bench`: look, load, measure, judge; a table, a record, a report, and an exit code that can be believed."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from dynoctl.bench import slo, validity
from dynoctl.bench.counters import with_counters
from dynoctl.bench.load import SEED, Load, points
from dynoctl.bench.record import Point, Record, plain
from dynoctl.cli import known
from dynoctl.cli.bench_app import Asked
from dynoctl.cli.bench_report import report
from dynoctl.cli.bench_subject import Subject, subject
from dynoctl.cli.session import now
from dynoctl.errors import DynoctlError, Exit
from dynoctl.probe.bench.machine import this_machine
from dynoctl.probe.bench.store import Store, read, save, save_samples
from dynoctl.probe.bench.tool import Instrument, Job, Measured
from dynoctl.probe.bench.trace import read as read_trace
from dynoctl.show import json as show_json
from dynoctl.show.bench import table
from dynoctl.show.bench.progress import Progress, progress
from dynoctl.show.terminal import Terminal


def store() -> Store:
    """Where results are kept."""
    return Store(known.home() / "bench" / "results")


def bench(asked: Asked) -> int:
    """Exit 0 where the result can be believed, 1 where it is INVALID or could not be had."""
    loads = shapes(asked)
    terminal = Terminal(quiet=asked.json)
    with subject(asked, terminal) as found:
        run = Run.of(asked, found, loads, terminal)
        problem = run.carry_out()
    run.finish(problem)
    if problem is not None:
        raise problem
    if run.interrupted:
        return Exit.INTERRUPTED
    return Exit.DONE if asked.allow_invalid or run.record.valid else Exit.FAILED


def shapes(asked: Asked) -> tuple[Load, ...]:
    """The points as they were asked for, with seeds from 0 on. Raises UsageError."""
    base = Load(
        input_tokens=asked.input_tokens,
        input_stddev=asked.input_stddev,
        output_tokens=asked.output_tokens,
        output_stddev=asked.output_stddev,
        seed=0,
        turns=asked.turns,
        prefix_tokens=asked.shared_prefix,
        prefixes=asked.prefixes,
        trace=asked.trace,
        trace_speed=asked.trace_speed,
        slo=slo.parse(asked.slo) if asked.slo is not None else slo.NO_SLO,
    )
    requests = asked.requests
    if asked.trace is not None:
        rows = len(read_trace(Path(asked.trace)))
        requests = min(requests or rows, rows)
    return points(base, asked.concurrency, asked.rate, requests, asked.warmup, asked.repeat)


def first_seed(asked: Asked, found: Subject) -> int:
    """The one that was typed; else the first from 123 on that no result for this server has, so that no prompt of an
    earlier run is in a cache."""
    if asked.seed is not None:
        return asked.seed
    used = [SEED - 1]
    for folder in store().folders():
        try:
            record = read(folder)
        except DynoctlError:
            continue
        if (record.target.url, record.target.model) == (found.target.url, found.target.model):
            used += [point.load.seed for point in record.points]
    return max(used) + 1


@dataclass
class Run:
    """One run of the verb."""

    asked: Asked
    subject: Subject
    loads: tuple[Load, ...]
    terminal: Terminal
    instrument: Instrument
    tokenizer: Path | None
    folder: Path
    started: str
    measured: list[Point] = field(default_factory=list)
    interrupted: bool = False
    record: Record = field(init=False)

    @classmethod
    def of(cls, asked: Asked, found: Subject, loads: tuple[Load, ...], terminal: Terminal) -> Run:
        """Everything that can fail before the first request does so here."""
        from dynoctl.cli.bench_tools import choose

        instrument, tokenizer = choose(asked, found, loads, terminal)
        seed, started = first_seed(asked, found), now()
        stamp = started.replace("-", "").replace(":", "").replace("T", "-").rstrip("Z")
        name = found.target.cluster or "url"
        folder = store().begin(stamp, name, Path(asked.output) if asked.output else None)
        seeded = tuple(replace(load, seed=seed + load.seed) for load in loads)
        run = cls(asked, found, seeded, terminal, instrument, tokenizer, folder, started)
        run.record = run._recorded()
        return run

    def carry_out(self) -> DynoctlError | None:
        """All points; what went wrong in the middle, so that what was measured before it is not lost."""
        with progress(self.terminal) as shown:
            for number, load in enumerate(self.loads):
                shown.begin(load.label)
                try:
                    self._measure(number, load, shown)
                except DynoctlError as error:
                    return error
                if self.interrupted:
                    break
        return None

    def _measure(self, number: int, load: Load, shown: Progress) -> None:
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
        measured = self.instrument.measure(job, shown.update)
        self.interrupted = measured.interrupted
        after = self.subject.snapshot()
        figures = with_counters(measured.metrics, before.counters, after.counters)
        evidence = validity.Evidence(
            load, figures, measured.samples, measured.cpu, before, after, measured.exact
        )
        self.measured.append(
            Point(
                load=load,
                metrics=figures,
                command=measured.command,
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

    def _recorded(self) -> Record:
        return Record(
            id=self.folder.name,
            started=self.started,
            dynoctl=version("dynoctl"),
            command=["dynoctl", *sys.argv[1:]],
            tool=self.instrument.tool,
            target=self.subject.target,
            client=this_machine(),
            nodes=self.subject.machines() if not self.measured else self.record.nodes,
            points=list(self.measured),
            tokenizer=str(self.tokenizer) if self.tokenizer else "bytes",
            interrupted=self.interrupted,
        )

    def finish(self, problem: DynoctlError | None) -> None:
        """Say what was measured first: a disk that is full takes the files, not the figures."""
        if self.measured:
            tell(self.record, self.folder, self.terminal, json=self.asked.json)
            save(self.folder, self.record)
            if self.asked.report and problem is None:
                tool = getattr(self.instrument, "environment", None)
                page = report(self.folder, self.record, tool, self.terminal)
                if not self.asked.json:
                    self.terminal.result(f"report      {page}")
        elif problem is not None and not any(self.folder.rglob("*.*")):
            _remove_empty(self.folder)


def _warm(measured: Measured) -> list[str]:
    if not measured.warm_errors:
        return []
    return [f"{len(measured.warm_errors)} requests of the warm-up failed: {measured.warm_errors[0]}"]


def _remove_empty(folder: Path) -> None:
    for place, _, _ in os.walk(folder, topdown=False):
        Path(place).rmdir()


def tell(record: Record, folder: Path, terminal: Terminal, *, json: bool) -> None:
    """A result, for people or programs."""
    if json:
        terminal.result(show_json.document({"folder": str(folder), **plain(record)}))
        return
    for line in table.head(record):
        terminal.result(line)
    terminal.result()
    if len(record.points) == 1:
        terminal.result(table.spreads(record.points[0]))
        terminal.result()
        for line in table.totals(record.points[0]):
            terminal.result(line)
    else:
        terminal.result(table.sweep(record.points))
    terminal.result()
    for line in table.verdict(record):
        terminal.result(line)
    terminal.result(f"result      {folder}")

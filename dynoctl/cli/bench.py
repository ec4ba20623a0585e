"""`dynoctl bench`: look, load, measure, judge; a table, a record, a report, and an exit code that can be believed."""

from __future__ import annotations

from pathlib import Path

from dynoctl.bench import foreign, slo
from dynoctl.bench.load import Load, points
from dynoctl.cli.bench_app import Asked
from dynoctl.cli.bench_run import Run
from dynoctl.cli.bench_subject import subject
from dynoctl.errors import DynoctlError, Exit
from dynoctl.probe.bench.trace import read as read_trace
from dynoctl.show.terminal import Terminal


def bench(asked: Asked) -> int:
    """Exit 0 where the result can be believed, 1 where it is INVALID or could not be had."""
    foreign.refuse(asked.tool_args)
    loads = shapes(asked)
    terminal = Terminal(quiet=asked.json)
    with subject(asked, terminal) as found:
        run = Run.of(asked, found, loads, terminal)
        problem = run.carry_out()
    try:
        run.finish(problem)
    except DynoctlError as error:
        problem = error
    if problem is not None:
        if asked.json and run.measured:  # what was printed is the one document, and says so
            terminal.error(problem)
            return problem.exit
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

"""`dynoctl bench` and its verbs as the command line has them.

`dynoctl bench …` without one of them means `bench run`. What stands behind `--` goes to the tool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dynoctl.cli import options


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was typed; None where nothing was, for what has its default elsewhere."""

    target: str | None = None
    url: str | None = None
    model: str | None = None
    tool: str = "auto"
    tokenizer: str | None = None
    concurrency: str | None = None
    rate: str | None = None
    requests: int | None = None
    warmup: int | None = None
    input_tokens: int = 3000
    input_stddev: int = 0
    output_tokens: int = 150
    output_stddev: int = 0
    seed: int | None = None
    turns: int = 1
    shared_prefix: int = 0
    prefixes: int = 1
    trace: str | None = None
    trace_speed: float = 1.0
    slo: str | None = None
    repeat: int = 1
    output: str | None = None
    libc: str | None = None
    silence_s: float = 300.0
    allow_invalid: bool = False
    report: bool = True
    tool_args: tuple[str, ...] = ()
    json: bool = False


class BenchGroup(TyperGroup):
    """A group whose usual verb need not be typed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in `run` where no verb stands, and make options of what stands behind `--`."""
        mark = args.index("--") if "--" in args else len(args)
        typed, behind = args[:mark], args[mark + 1 :]
        if not typed or (typed[0] not in self.commands and typed[0] not in ("-h", "--help")):
            typed = ["run", *typed]
        return super().parse_args(ctx, [*typed, *(f"--tool-arg={word}" for word in behind)])


bench = typer.Typer(
    cls=BenchGroup,
    help="Measure what a cluster serves; `dynoctl bench` alone is `run`.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Result = Annotated[
    str, typer.Argument(metavar="RESULT", help="Its name, the beginning of it, its folder, or `last`.")
]
AllowInvalid = Annotated[
    bool, typer.Option("--allow-invalid", help="Exit with 0 though a result is INVALID.")
]


Url = Annotated[
    str | None,
    typer.Option("--url", help="Any OpenAI server instead of a cluster.", show_default=False),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="What to ask for, where several are served.", show_default=False),
]
Tool = Annotated[str, typer.Option("--tool", metavar="NAME", help="auto, genai-perf, aiperf or builtin.")]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        "--tokenizer", metavar="FOLDER", help="The model's folder, to count by.", show_default=False
    ),
]
Concurrency = Annotated[
    str | None,
    typer.Option("--concurrency", "-c", metavar="N,…", help="Requests at a time (10); several make a sweep."),
]
Rate = Annotated[
    str | None,
    typer.Option(
        "--request-rate", metavar="N,…", help="Requests a second instead, whether answers come or not."
    ),
]
Requests = Annotated[
    int | None,
    typer.Option("--requests", min=1, help="How many to measure (40, or 4 for each at a time)."),
]
Warmup = Annotated[
    int | None,
    typer.Option("--warmup", min=0, help="How many to warm up with (10, or one for each at a time)."),
]
InputTokens = Annotated[int, typer.Option("--input-tokens", min=1, help="Of a prompt.")]
InputStddev = Annotated[int, typer.Option("--input-stddev", min=0, help="Their standard deviation.")]
OutputTokens = Annotated[int, typer.Option("--output-tokens", min=1, help="Of an answer.")]
OutputStddev = Annotated[int, typer.Option("--output-stddev", min=0, help="Their standard deviation.")]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="What prompts are made of (123, then one not used here yet)."),
]
Turns = Annotated[int, typer.Option("--turns", min=1, help="Requests of a conversation.")]
SharedPrefix = Annotated[
    int, typer.Option("--shared-prefix", min=0, metavar="TOKENS", help="Prompts begin alike so far.")
]
Prefixes = Annotated[int, typer.Option("--prefixes", min=1, help="Different beginnings.")]
Trace = Annotated[
    str | None,
    typer.Option("--trace", metavar="FILE", help="Replay a Mooncake trace (JSONL).", show_default=False),
]
TraceSpeed = Annotated[
    float, typer.Option("--trace-speed", min=0.001, help="So many times as fast as it was.")
]
Slo = Annotated[
    str | None,
    typer.Option("--slo", metavar="LIMITS", help="Count the good ones: ttft=500ms,itl=50ms,latency=10s."),
]
Repeat = Annotated[int, typer.Option("--repeat", min=1, help="Measure all of it so many times.")]
Output = Annotated[
    str | None,
    typer.Option("--output", metavar="FOLDER", help="Where the result goes, instead of ~/.dynoctl/bench."),
]
Libc = Annotated[
    str | None,
    typer.Option("--libc", metavar="FOLDER", help="Newer C libraries to run genai-perf's binary with."),
]
SilenceS = Annotated[
    float, typer.Option("--timeout", min=1, metavar="SECONDS", help="So long may nothing happen.")
]
Report = Annotated[bool, typer.Option("--report/--no-report", help="Draw the plots, write report.html.")]
ToolArgs = Annotated[
    list[str] | None,
    typer.Option("--tool-arg", help="To the tool as it is; what stands behind -- is the same."),
]


@bench.command()
def run(
    target: options.Target = None,
    url: Url = None,
    model: Model = None,
    tool: Tool = "auto",
    tokenizer: Tokenizer = None,
    concurrency: Concurrency = None,
    rate: Rate = None,
    requests: Requests = None,
    warmup: Warmup = None,
    input_tokens: InputTokens = 3000,
    input_stddev: InputStddev = 0,
    output_tokens: OutputTokens = 150,
    output_stddev: OutputStddev = 0,
    seed: Seed = None,
    turns: Turns = 1,
    shared_prefix: SharedPrefix = 0,
    prefixes: Prefixes = 1,
    trace: Trace = None,
    trace_speed: TraceSpeed = 1.0,
    slo: Slo = None,
    repeat: Repeat = 1,
    output: Output = None,
    libc: Libc = None,
    silence_s: SilenceS = 300.0,
    allow_invalid: AllowInvalid = False,
    report: Report = True,
    tool_args: ToolArgs = None,
    json: options.Json = False,
) -> int:
    """Load a cluster, measure it, and judge the result."""
    from dynoctl.cli.bench import bench as verb

    given = {name: value for name, value in locals().items() if name != "verb"}
    return verb(Asked(**{**given, "tool_args": tuple(tool_args or ())}))


@bench.command("list")
def list_results(json: options.Json = False) -> int:
    """Show the results that are kept here."""
    from dynoctl.cli.bench_results import list_results as verb

    return verb(json=json)


@bench.command()
def show(result: Result = "last", json: options.Json = False) -> int:
    """Show one result again."""
    from dynoctl.cli.bench_results import show as verb

    return verb(result, json=json)


@bench.command()
def compare(
    results: Annotated[
        list[str], typer.Argument(metavar="RESULT…", help="The first is what the others are compared with.")
    ],
    allow_invalid: AllowInvalid = False,
    json: options.Json = False,
) -> int:
    """Show what changed between results, and whether it is noise."""
    from dynoctl.cli.bench_results import compare as verb

    return verb(results, allow_invalid=allow_invalid, json=json)

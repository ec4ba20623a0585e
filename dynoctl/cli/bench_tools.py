"""Which tool measures, and the tokenizer that it counts by.

In: what was typed, what is measured. Out: an `Instrument` that can be used at once, and a model folder or None.
"""

from __future__ import annotations

from pathlib import Path

from dynoctl.bench.load import Load
from dynoctl.cli import known
from dynoctl.cli.bench_app import Asked
from dynoctl.cli.bench_subject import Subject
from dynoctl.errors import UsageError
from dynoctl.probe.bench.builtin import Builtin
from dynoctl.probe.bench.tool import Instrument
from dynoctl.show.terminal import Terminal

TOOLS = ("auto", "genai-perf", "aiperf", "builtin")


def choose(
    asked: Asked, found: Subject, loads: tuple[Load, ...], terminal: Terminal
) -> tuple[Instrument, Path | None]:
    """Raises UsageError for a tool that is none or cannot do this, DynoctlError where it cannot be installed."""
    if asked.tool not in TOOLS:
        raise UsageError(f"--tool: there is no {asked.tool!r}; there are {', '.join(TOOLS)}")
    tokenizer = tokenizer_of(asked, found, terminal)
    return Builtin(), tokenizer


def tokenizer_of(asked: Asked, found: Subject, terminal: Terminal) -> Path | None:
    """The model folder to count by. Raises UsageError where the one that was named is none."""
    if asked.tokenizer is not None:
        folder = Path(asked.tokenizer).expanduser()
        if not (folder / "tokenizer.json").is_file():
            raise UsageError(
                f"there is no tokenizer.json in {folder}",
                next="--tokenizer FOLDER, of the model that is served",
            )
        return folder
    if found.knows_tokenizer:
        return found.tokenizer(known.home() / "bench" / "tokenizers")
    terminal.warn("no --tokenizer: prompts are so many bytes long, and not so many tokens")
    return None

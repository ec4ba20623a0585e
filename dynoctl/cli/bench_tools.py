"""Which tool measures, and the tokenizer that it counts by.

In: what was typed, what is measured. Out: an `Instrument` that can be used at once, and a model folder or None.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

from dynoctl.bench import aiperf, genai_perf
from dynoctl.bench.load import Load
from dynoctl.bench.record import Tool
from dynoctl.cli import known
from dynoctl.cli.bench_app import Asked
from dynoctl.cli.bench_subject import Subject
from dynoctl.errors import DynoctlError, UsageError
from dynoctl.plan.digest import digest_of
from dynoctl.probe.bench import libc
from dynoctl.probe.bench.builtin import Builtin
from dynoctl.probe.bench.environment import Environment, alone
from dynoctl.probe.bench.external import Aiperf, External, GenaiPerf
from dynoctl.probe.bench.store import writing
from dynoctl.probe.bench.tool import Instrument
from dynoctl.show.terminal import Terminal

TOOLS = ("auto", "genai-perf", "aiperf", "builtin")
Say = Callable[[str], None]


def choose(
    asked: Asked, found: Subject, loads: tuple[Load, ...], terminal: Terminal
) -> tuple[Instrument, Path | None]:
    """Raises UsageError for a tool that is none or cannot do this, DynoctlError where it cannot be installed."""
    if asked.tool not in TOOLS:
        raise UsageError(f"--tool: there is no {asked.tool!r}; there are {', '.join(TOOLS)}")
    if asked.libc is not None and asked.tool in ("aiperf", "builtin"):
        raise UsageError(f"--libc is for genai-perf's binary; {asked.tool} has none")
    tokenizer = tokenizer_of(asked, found, terminal)
    if asked.tool == "builtin":
        return Builtin(), tokenizer
    if tokenizer is None and not found.knows_tokenizer:
        if asked.tool != "auto":
            raise UsageError(
                f"{asked.tool} counts tokens itself, and which tokenizer {found.target.url} uses is not known",
                next="the same with --tokenizer FOLDER, or with --tool builtin",
            )
        terminal.say("without a tokenizer only builtin can measure")
        return Builtin(), None
    if asked.tool == "auto":
        return _auto(asked, loads, terminal), tokenizer
    return (
        _genai_perf(asked, terminal.say) if asked.tool == "genai-perf" else _aiperf(terminal.say)
    ), tokenizer


def _auto(asked: Asked, loads: tuple[Load, ...], terminal: Terminal) -> Instrument:
    """genai-perf where its binary runs and it knows the load, else aiperf, else builtin; said in a line."""
    refusals = [why for load in loads if (why := genai_perf.refusal(load)) is not None]
    try:
        if refusals:
            terminal.say(f"{refusals[0]}: aiperf measures")
        elif asked.libc is None and libc.glibc() < genai_perf.BINARY_GLIBC:
            terminal.say(f"{_too_old()}: aiperf measures")
        else:
            return _genai_perf(asked, terminal.say)
        return _aiperf(terminal.say)
    except UsageError:
        raise
    except DynoctlError as error:
        terminal.warn(f"{error.message}: builtin measures")
        return Builtin()


def _too_old() -> str:
    needed, here = (".".join(map(str, version)) for version in (genai_perf.BINARY_GLIBC, libc.glibc()))
    return f"genai-perf's binary needs glibc {needed}, and this machine has {here}"


def _place() -> Path:
    return known.home() / "bench"


def _aiperf(say: Say) -> External:
    environment = Environment(_place() / "envs", "aiperf", (aiperf.REQUIREMENT,))
    environment.ensure(say)
    version = aiperf.REQUIREMENT.partition("==")[2]
    return Aiperf(Tool(name="aiperf", version=version), environment, _place() / "tokenizers")


def _genai_perf(asked: Asked, say: Say) -> External:
    """Its binary is a wheel that pip refuses where the C library is older; then it is unpacked beside it."""
    old = libc.glibc() < genai_perf.BINARY_GLIBC
    if old and asked.libc is None:
        raise UsageError(
            f"{_too_old()}",
            next="the same with --libc FOLDER (scripts/bench-libc makes one), or --tool aiperf",
        )
    wanted = (genai_perf.REQUIREMENT,) if old else (genai_perf.REQUIREMENT, genai_perf.BINARY)
    environment = Environment(_place() / "envs", "genai-perf", wanted)
    environment.ensure(say)
    binaries = None
    if asked.libc is not None:
        libraries = Path(asked.libc).expanduser().absolute()
        binary = _binary(environment, say)
        binaries = environment.folder / f"libc-{digest_of(str(libraries))}"
        libc.launcher(libraries, binary, binaries / "perf_analyzer")
    version = genai_perf.REQUIREMENT.partition("==")[2]
    tool = Tool(name="genai-perf", version=version)
    return GenaiPerf(tool, environment, _place() / "tokenizers", binaries)


def _binary(environment: Environment, say: Say) -> Path:
    """perf_analyzer itself, out of a wheel that pip would not install here. What is there is whole: it is unpacked
    aside. Raises DynoctlError."""
    place = environment.folder / "perf-analyzer"
    binary = Path("perf_analyzer", "bin", "perf_analyzer")
    if (place / binary).exists():
        return place / binary
    part = place.with_suffix(".part")
    with alone(place.with_suffix(".lock")):
        if (place / binary).exists():  # somebody else made it meanwhile
            return place / binary
        say(f"fetching {genai_perf.BINARY} (once)")
        for old in (part, place):
            shutil.rmtree(old, ignore_errors=True)
        wheel = _wheel(environment, part)
        with writing(part):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(part)
            wheel.unlink()
            (part / binary).chmod(0o755)
            part.rename(place)
    return place / binary


def _wheel(environment: Environment, folder: Path) -> Path:
    """Fetched into there. Raises DynoctlError."""
    tag = "_".join(["manylinux", *map(str, genai_perf.BINARY_GLIBC), platform.machine()])
    command = [environment.program("python"), "-m", "pip", "download", "-qq", "--disable-pip-version-check"]
    command += [
        "--no-deps",
        "--only-binary=:all:",
        "--platform",
        tag,
        "--dest",
        str(folder),
        genai_perf.BINARY,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise DynoctlError(
            f"{genai_perf.BINARY} could not be fetched",
            detail=done.stderr.strip().splitlines()[-3:],
            next="the same once the package index answers, or --tool aiperf",
        )
    return wheels[0]


def tokenizer_of(asked: Asked, found: Subject, terminal: Terminal) -> Path | None:
    """The model folder to count by. Raises UsageError where the one that was named is none."""
    if asked.tokenizer is not None:
        folder = Path(asked.tokenizer).expanduser().absolute()
        if not (folder / "tokenizer.json").is_file():
            raise UsageError(
                f"there is no tokenizer.json in {folder}",
                next="--tokenizer FOLDER, of the model that is served",
            )
        return folder
    if found.knows_tokenizer:
        return found.tokenizer(_place() / "tokenizers")
    terminal.warn("no --tokenizer: prompts are so many bytes long, and not so many tokens")
    return None

"""The entry point: the one place where an exception becomes a message and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynoctl.errors import DynoctlError, UsageError


def main() -> None:
    """Run the command line and exit with its code."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        from dynoctl.show.terminal import let_go

        let_go(sys.stdout)
    # Threads of the window are daemons and may be in the middle of a line: an ordinary exit would abort on the
    # lock of their stream. Nothing is left to be done here.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


def run(argv: list[str]) -> int:
    """Run one command line; returns its exit code. Only `--debug` lets a traceback through."""
    from dynoctl.cli.app import app
    from dynoctl.errors import DynoctlError, Exit
    from dynoctl.show.terminal import NobodyReads, Terminal

    debug, as_json = "--debug" in argv, "--json" in argv
    try:
        code = app(
            args=[word for word in argv if word != "--debug"] or ["--help"],
            prog_name="dynoctl",
            standalone_mode=False,
        )
    except DynoctlError as error:
        if debug:
            raise
        _tell(error, as_json=as_json)
        return int(error.exit)
    except (NobodyReads, SystemExit):
        return Exit.DONE  # typer makes a SystemExit of a print that nobody reads, and of nothing else
    except Exception as error:
        return _unexpected(error, debug=debug, as_json=as_json)
    if code == Exit.INTERRUPTED:  # so typer tells of a Ctrl-C that no verb made an error of
        Terminal().say("interrupted")
    return int(code or 0)


def _tell(error: DynoctlError, *, as_json: bool) -> None:
    """The error for people on standard error, and for programs that asked for JSON on standard output."""
    from dynoctl.show import json
    from dynoctl.show.terminal import NobodyReads, Terminal

    Terminal().error(error)
    if as_json:
        with contextlib.suppress(NobodyReads):
            Terminal().result(json.document(json.error(error)))


def _unexpected(error: Exception, *, debug: bool, as_json: bool) -> int:
    import typer

    from dynoctl.errors import DynoctlError, Exit
    from dynoctl.show.terminal import Terminal

    if isinstance(error, typer.Abort):
        Terminal().say("interrupted")
        return Exit.INTERRUPTED
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        # What typer refuses: its classes have moved from release to release, these two names have not.
        _tell(_usage(error), as_json=as_json)
        return Exit.USAGE
    if debug:
        raise error
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    ours = DynoctlError(
        f"dynoctl itself failed: {what}",
        next="the same command with --debug, and please report what it prints",
    )
    _tell(ours, as_json=as_json)
    return Exit.FAILED


def _usage(error: Any) -> UsageError:
    """What typer refused, in our own form; `error` carries its message and the verb that it belongs to."""
    from dynoctl.errors import UsageError

    said = str(error.format_message())
    context = getattr(error, "ctx", None)
    verb = context.command_path if context is not None else "dynoctl"
    return UsageError(said.rstrip("."), next=f"{verb} --help")


if __name__ == "__main__":
    main()

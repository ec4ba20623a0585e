"""The verbs of dynoctl and what `--help` says of them; each verb's work is in a file of its own.

A verb is imported when it is called: `dynoctl --help` pays for typer alone.
"""

from __future__ import annotations

from typing import Annotated

import typer

from dynoctl.cli import options
from dynoctl.cli.bench_app import bench

app = typer.Typer(
    name="dynoctl",
    help="One YAML file in, one serving LLM cluster out, over plain SSH.",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"dynoctl {version('dynoctl')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """One YAML file in, one serving LLM cluster out, over plain SSH."""


@app.command()
def validate(file: options.File, overrides: options.Set = None, json: options.Json = False) -> int:
    """Check a topology file and name all that is wrong with it."""
    from dynoctl.cli.validate import validate as verb

    return verb(file, overrides or [], json=json)


@app.command()
def schema() -> int:
    """Print the JSON Schema of topology files, for editors."""
    from dynoctl.cli.schema import schema as verb

    return verb()


@app.command()
def plan(
    target: options.Target = None,
    overrides: options.Set = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Touch no node: plan as if all of them were empty.")
    ] = False,
    detailed_exitcode: Annotated[
        bool,
        typer.Option(
            "--detailed-exitcode", help="Exit with 2 where there are changes, 0 where there are none."
        ),
    ] = False,
    json: options.Json = False,
) -> int:
    """Show what `up` would do on every node, and why. Changes nothing."""
    from dynoctl.cli.plan import plan as verb

    return verb(target, overrides or [], offline=offline, json=json, detailed_exitcode=detailed_exitcode)


@app.command()
def up(
    target: options.Target = None,
    overrides: options.Set = None,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> int:
    """Bring the cluster to what the file says; prove it by a token."""
    from dynoctl.cli.up import up as verb

    return verb(target, overrides or [], yes=yes, dry_run=dry_run, json=json)


@app.command()
def status(
    target: options.Target = None,
    overrides: options.Set = None,
    prometheus: Annotated[
        bool,
        typer.Option(
            "--prometheus", help="Only where Prometheus finds every process, for its file discovery."
        ),
    ] = False,
    json: options.Json = False,
) -> int:
    """Show every role: where it runs, how far it got. Below, the last minute in figures."""
    from dynoctl.cli import status as verbs

    if prometheus:
        return verbs.targets(target, overrides or [])
    return verbs.status(target, overrides or [], json=json)


@app.command()
def logs(
    target: options.Target = None,
    overrides: options.Set = None,
    role: Annotated[
        str | None,
        typer.Option(
            "--role", "-r", metavar="NAME", help="Only this role, unit or node.", show_default=False
        ),
    ] = None,
    lines: Annotated[int, typer.Option("--tail", "-n", min=0, help="Lines from the end of each log.")] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")
    ] = False,
    json: options.Json = False,
) -> int:
    """Print the logs of all units, each line behind its unit."""
    from dynoctl.cli.logs import logs as verb

    return verb(target, overrides or [], role, lines=lines, follow=follow, json=json)


models = typer.Typer(
    help="Show, add and remove the names that clients may ask for.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models, name="models")
app.add_typer(bench, name="bench")
Name = Annotated[str, typer.Argument(metavar="NAME", help="What clients ask for; compared whole.")]


@models.command("list")
def list_models(
    target: options.Target = None, overrides: options.Set = None, json: options.Json = False
) -> int:
    """Show every name, and the workers behind it."""
    from dynoctl.cli.models import list_models as verb

    return verb(target, overrides or [], json=json)


@models.command("add")
def add_model(
    name: Name,
    target: options.Target = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="The model that gets the name; may be left out where there is only one.",
            show_default=False,
        ),
    ] = None,
    overrides: options.Set = None,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> int:
    """Give a model a further name, for as long as it is served."""
    from dynoctl.cli.models import add_model as verb

    return verb(name, target, overrides or [], model, dry_run=dry_run, json=json)


@models.command("remove")
def remove_model(
    name: Name,
    target: options.Target = None,
    overrides: options.Set = None,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> int:
    """Take away a name that was added."""
    from dynoctl.cli.models import remove_model as verb

    return verb(name, target, overrides or [], dry_run=dry_run, json=json)


@app.command()
def down(
    target: options.Target = None,
    overrides: options.Set = None,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> int:
    """Stop the cluster and prove that nothing of it is left."""
    from dynoctl.cli.down import down as verb

    return verb(target, overrides or [], yes=yes, dry_run=dry_run, json=json)

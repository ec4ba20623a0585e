"""The options that several verbs share, spelled once. Everything heavy is imported inside the verbs."""

from __future__ import annotations

from typing import Annotated

import typer

Target = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE|NAME",
        help="A topology file, or the name of a cluster that was brought up from here. "
        "May be left out where only one cluster is known.",
        show_default=False,
    ),
]
File = Annotated[str, typer.Argument(metavar="FILE", help="A topology file.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one leaf of the file, as in --set roles.decode.tp=4. May be repeated.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys instead of text.")]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        "-y",
        help="Do not ask before something that serves is stopped; forget nodes that left the file and are gone.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]

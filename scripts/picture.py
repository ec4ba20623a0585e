"""Run `up`, `status` and `down` for real and keep what they print as an SVG.

In: the path of the picture. Out: the picture. The cluster has a folder of its own and ends with this program.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from dynoctl.__main__ import run
from dynoctl.show import terminal

WIDTH = 112
FILE = "topologies/local.yaml"


def main(picture: Path) -> int:
    """Draw; returns the exit code of the first verb that fails."""
    console = Console(record=True, force_terminal=True, width=WIDTH, file=io.StringIO())
    terminal._console = lambda *, stderr: console  # both streams, in the order of printing
    terminal.Terminal.live = property(lambda self: False)  # type: ignore[method-assign,assignment]
    code = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DYNOCTL_HOME"] = f"{folder}/home"
        settings = ["--set", f"state_dir={folder}/state"]
        try:
            for typed, words in (("up " + FILE, ["up", FILE, *settings]), ("status", ["status"])):
                console.print(Text.assemble(("$ ", "green"), (f"dynoctl {typed}", "bold")))
                code = code or run(words)
                console.print()
        finally:
            drawn = console.export_svg(title="dynoctl", clear=False)
            code = run(["down"]) or code
    # rich names classes by a random-looking hash of the content; a fixed one keeps the diff to what changed.
    picture.write_text(re.sub(r"terminal-\d+", "terminal", drawn))
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

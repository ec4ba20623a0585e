"""How long a person waits for an answer that needs no network: `--help` and `validate`, beside `import typer, rich`.

.venv/bin/python -m benchmarks.startup [--rounds 15]
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.fleet import measure
from benchmarks.report import table


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    python = sys.executable
    commands = {
        "python -c 'import typer, rich'": [python, "-c", "import typer, rich"],
        "dynoctl --help": [python, "-m", "dynoctl", "--help"],
        "dynoctl validate topologies/local.yaml": [
            python,
            "-m",
            "dynoctl",
            "validate",
            "topologies/local.yaml",
        ],
    }
    rows = measure(commands, given.rounds)
    print(f"{given.rounds} rounds, medians")
    print(table(["", "wall s", "× import", "CPU s", "× import"], [row.cells(rows[0]) for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

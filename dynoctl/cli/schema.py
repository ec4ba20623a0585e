"""`dynoctl schema`: the JSON Schema of topology files, for editors.

In: nothing. Out: JSON on standard output.
"""

from __future__ import annotations

from dynoctl.errors import Exit


def schema() -> int:
    """Print the schema."""
    print(text(), end="")
    return Exit.DONE


def text() -> str:
    """The schema as `topologies/schema.json` holds it."""
    from json import dumps

    from dynoctl.topology.schema import schema as build

    return dumps(build(), indent=2, ensure_ascii=False) + "\n"

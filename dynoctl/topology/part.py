"""The base of every section of a topology, and the marks that its types may carry for the reader.

In: nothing. Out: `Part`, frozen and strict about its keys; `means` and `SHORT`, read by `dynoctl.topology.reader`
and `dynoctl.topology.schema`. No module with models delays its annotations: they are looked at when it is imported.
"""

import msgspec

ONE_OR_MORE = msgspec.Meta(extra={"short": "one"})  # a single value stands for a list of one
NODE_OR_MAP = msgspec.Meta(extra={"short": "node"})  # a text stands for {node: text}


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One section of the file."""


def means(words: str, pattern: str) -> msgspec.Meta:
    """A text that must match `pattern`, which is, in words, `words`."""
    return msgspec.Meta(pattern=pattern, extra={"means": words})

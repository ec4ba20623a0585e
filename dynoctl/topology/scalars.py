"""The single values of a topology: names, ports, paths, counts, each with the words that say what it must be.

In: nothing. Out: types for the models.
"""

from typing import Annotated

from msgspec import Meta

from dynoctl.topology.part import means

Label = Annotated[
    str,
    means(
        "a name of at most 63 lowercase letters, digits and inner hyphens",
        r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    ),
]
Path = Annotated[str, means("a path that starts with / or ~/", r"^(/|~/)[^\x00-\x1f\x7f]*$")]
Host = Annotated[str, means("a host name, an address, or 'local'", r"^[A-Za-z0-9_:][A-Za-z0-9_.:%-]{0,253}$")]
User = Annotated[str, means("a user name", r"^[A-Za-z0-9_][A-Za-z0-9_.@\\-]*$")]
Text = Annotated[str, Meta(min_length=1)]

Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0)]

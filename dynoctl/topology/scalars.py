"""The single values of a topology: names, ports, paths, counts, each with the words that say what it must be.

In: nothing. Out: types for `dynoctl.topology.model`, and `PATTERNS`, from a pattern to what it means in words.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, Strict, StringConstraints

_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_PATH = r"^(/|~/|~$)[^\x00-\x1f]*$"
_ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
_HOST = r"^[A-Za-z0-9_]([A-Za-z0-9_.:%-]{0,253})$"
_USER = r"^[A-Za-z0-9_][A-Za-z0-9_.@\\-]*$"

PATTERNS = {
    _LABEL: "a name of 1 to 63 lowercase letters, digits and inner hyphens",
    _PATH: "a path that starts with / or ~/",
    _ENV_NAME: "the name of an environment variable (letters, digits and _, no digit first)",
    _HOST: "a host name, an IP address or 'local'",
    _USER: "a user name",
}

Label = Annotated[str, StringConstraints(pattern=_LABEL)]
Path = Annotated[str, StringConstraints(pattern=_PATH)]
EnvName = Annotated[str, StringConstraints(pattern=_ENV_NAME)]
Host = Annotated[str, StringConstraints(pattern=_HOST)]
User = Annotated[str, StringConstraints(pattern=_USER)]
Text = Annotated[str, StringConstraints(min_length=1)]

Flag = Annotated[bool, Strict()]
Port = Annotated[int, Strict(), Field(ge=1, le=65535)]
Count = Annotated[int, Strict(), Field(ge=0)]
Positive = Annotated[int, Strict(), Field(ge=1)]
Seconds = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]


def _number_as_text(value: object) -> object:
    """A whole number is taken for its digits; everything else must be text already."""
    return str(value) if type(value) is int else value


EnvText = Annotated[str, BeforeValidator(_number_as_text, json_schema_input_type=str | int)]

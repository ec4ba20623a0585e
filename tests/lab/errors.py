"""What the lab raises on purpose: one sentence a person can act on."""

from __future__ import annotations


class LabError(Exception):
    """The lab could not do what was asked; `str(error)` is the sentence."""


class BadRequest(LabError):
    """What was asked makes no sense: an unknown host, a probability above 1."""

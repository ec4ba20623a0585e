"""What was made while starting stays, and need not be looked at whenever Python looks for circles of garbage."""

from __future__ import annotations

import gc

# Requests leave no circles behind, so there is little to find: after so many objects more than were let go.
THRESHOLD = (20_000, 20, 20)


def settle() -> None:
    """All that there is now stays. Call it after something large was loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLD)

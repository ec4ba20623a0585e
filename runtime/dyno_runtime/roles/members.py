"""Who is in the cluster, as this process sees it: what the registry reports, folded into a view.

In: the registry's events. Out: `view`, and `changed` once for all events of one turn of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dyno_runtime.core import view
from dyno_runtime.wire.messages import Instance, LeaseId, Role


class Members:
    """See the module; a `Listener` of `bus.registry`."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.view = view.View()
        self._tell = changed
        self._soon = False

    def seen(self, instance: Instance) -> None:
        self.view = view.seen(self.view, instance)
        self.changed()

    def gone(self, role: Role, lease: LeaseId) -> None:
        self.view = view.gone(self.view, role, lease)
        self.changed()

    def changed(self) -> None:
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._changed)

    def _changed(self) -> None:
        self._soon = False
        self._tell()

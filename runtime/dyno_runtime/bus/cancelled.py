"""Who cancelled a task: somebody who wants its end, or a client library whose connection went away under it.

In: the running task. Out: yes or no. grpc and nats-py cancel what waits on a connection that is closed; taken for
the real thing, that would end a task of ours silently and for ever.
"""

from __future__ import annotations

import asyncio


def wanted() -> bool:
    """Asked in an `except CancelledError`: whether the running task was told to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

"""Work that takes long and cannot be cut off: in a thread that does not keep its process from ending.

In: a function. Out: its end, or its error. The event loop's own threads are waited for when it closes, so a process
that is told to stop while weights are read would live on until they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable


async def in_daemon(work: Callable[[], None]) -> None:
    """Run `work` to its end in a thread of its own. Cancelled, nobody waits for it any more; it goes on."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        failed: BaseException | None = None
        try:
            work()
        except BaseException as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(tell, failed)

    threading.Thread(target=run, name="load", daemon=True).start()
    await done

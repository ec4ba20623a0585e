"""Time on a node: seconds of uptime, which two processes of one boot may compare, and the boot itself.

In: nothing. Out: seconds (CLOCK_BOOTTIME, counts suspended time too) and the kernel's boot id.
"""

from __future__ import annotations

import time
from pathlib import Path


def uptime_s() -> float:
    """Seconds since the machine was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """The id that the kernel drew at boot: a pid written down under another one means nothing now."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

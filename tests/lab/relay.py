"""A slow cable: frames between a host and the switch arrive later by a fixed time.

In: name of the host's cable, name for the TAP device, name of the bridge, delay in seconds. Out: the line
`ready` on standard output; frames until killed. The kernel may have no netem, so this is done by hand. Frames
travel with their virtio header, so that what the kernel has not yet split or summed stays so.
"""

from __future__ import annotations

import collections
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable

TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
CHECKSUMS_AND_TCP_SEGMENTS = 0x1 | 0x2 | 0x4
ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
MAX_FRAME_BYTES = 1 << 17
MAX_QUEUED_BYTES = 16 << 20
BURST_FRAMES = 64


class Line:
    """One direction: frames wait for their time, at most MAX_QUEUED_BYTES of them; the rest are lost."""

    def __init__(self, read: Callable[[], bytes], write: Callable[[bytes], object], delay_s: float) -> None:
        self._read = read
        self._write = write
        self._delay_s = delay_s
        self._queue: collections.deque[tuple[float, bytes]] = collections.deque()
        self._queued_bytes = 0

    def take(self, now_s: float) -> None:
        """Queue what has arrived."""
        for _ in range(BURST_FRAMES):
            try:
                frame = self._read()
            except OSError:  # nothing more, or the cable is cut just now
                return
            if self._queued_bytes + len(frame) <= MAX_QUEUED_BYTES:
                self._queue.append((now_s + self._delay_s, frame))
                self._queued_bytes += len(frame)

    def give(self, now_s: float) -> None:
        """Send what is due."""
        while self._queue and self._queue[0][0] <= now_s:
            frame = self._queue.popleft()[1]
            self._queued_bytes -= len(frame)
            try:
                self._write(frame)
            except OSError:  # a cut cable or a full queue loses the frame, as a real one does
                pass

    def due_s(self) -> float | None:
        """When the next frame must go, or None."""
        return self._queue[0][0] if self._queue else None


def open_tap(name: str) -> int:
    """Make a TAP device; it exists as long as the descriptor."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    fcntl.ioctl(tap, TUNSETOFFLOAD, CHECKSUMS_AND_TCP_SEGMENTS)
    return tap


def open_cable(name: str) -> socket.socket:
    """A raw socket that hears what comes from the host, and nothing that we send to it."""
    cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    cable.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    cable.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    cable.bind((name, ETH_P_ALL))
    cable.setblocking(False)
    return cable


def relay(tap: int, cable: socket.socket, delay_s: float) -> None:
    """Move frames both ways until killed."""
    from_host = Line(lambda: cable.recv(MAX_FRAME_BYTES), lambda frame: os.write(tap, frame), delay_s)
    to_host = Line(lambda: os.read(tap, MAX_FRAME_BYTES), cable.send, delay_s)
    lines: dict[int | socket.socket, Line] = {cable: from_host, tap: to_host}
    while True:
        dues_s = [due_s for line in lines.values() if (due_s := line.due_s()) is not None]
        wait_s = max(0.0, min(dues_s) - time.monotonic()) if dues_s else None
        for source in select.select(list(lines), [], [], wait_s)[0]:
            lines[source].take(time.monotonic())
        now_s = time.monotonic()
        for line in lines.values():
            line.give(now_s)


def main() -> None:
    """Relay between the cable and a TAP device in the bridge."""
    cable_name, tap_name, bridge, delay = sys.argv[1:]
    tap = open_tap(tap_name)
    with open_cable(cable_name) as cable:
        subprocess.run(["ip", "link", "set", tap_name, "master", bridge, "up"], check=True, timeout=30)
        print("ready", flush=True)
        relay(tap, cable, float(delay))


if __name__ == "__main__":
    main()

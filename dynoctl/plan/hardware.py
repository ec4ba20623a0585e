"""The hardware of a node, for engines that use it: GPUs, addresses by interface, RDMA ports.

In: what a node printed. Out: keyword values of `NodeSeen`. Asked only where the topology puts a vLLM worker on the
node and something is about to be started (`$ask_hardware`), because nvidia-smi may take seconds.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from dynoctl.plan.fact import Fact, lines

MIB = 1 << 20
BUSY_BYTES = 1_000_000_000  # a driver and a display take less
BUSY_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, as nvidia-smi numbers them: in the order of the PCI bus."""

    index: int
    uuid: str
    name: str
    total_bytes: int
    used_bytes: int

    @property
    def busy(self) -> bool:
        """Whether somebody computes on it, by the memory that is taken."""
        return self.used_bytes > max(BUSY_BYTES, BUSY_SHARE * self.total_bytes)


@dataclass(frozen=True, slots=True)
class Hardware:
    """What was found. `gpus` is None where there is no nvidia-smi to ask; `addresses` are (interface, IP address);
    `rdma` are active ports as UCX names them, `mlx5_0:1`."""

    gpus: tuple[Gpu, ...] | None
    addresses: tuple[tuple[str, str], ...]
    rdma: tuple[str, ...] = ()

    def interface(self, address: str) -> str | None:
        """The interface that holds an address."""
        return next((name for name, held in self.addresses if held == address), None)


# Where iproute2 is missing, the main IPv4 address of each interface has to do.
_ADDRESSES = """\
import fcntl, socket, struct
asks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number, name in socket.if_nameindex():
    try:
        found = fcntl.ioctl(asks, 0x8915, struct.pack("256s", name.encode()[:15]))[20:24]
    except OSError:
        continue
    print(f"{number}: {name} inet {socket.inet_ntoa(found)}/0")
"""

_COMMAND = f"""\
if [ $ask_hardware = yes ]; then
if command -v nvidia-smi >/dev/null; then echo gpus
nvidia-smi --query-gpu=index,uuid,name,memory.total,memory.used --format=csv,noheader,nounits 2>/dev/null </dev/null
fi; echo addresses
ip -o addr 2>/dev/null || python3 -I -c '{_ADDRESSES}' 2>/dev/null
echo rdma
for x in /sys/class/infiniband/*/ports/*; do s=; {{ read -r s < "$x/state"; }} 2>/dev/null
case $s in *ACTIVE*) d=${{x%/ports/*}}; echo "${{d##*/}}:${{x##*/}}";; esac; done; fi"""


def _hardware(text: str) -> dict[str, Any]:
    said = lines(text)
    if "rdma" not in said:
        return {"hardware": None}
    addresses, rdma = said.index("addresses"), said.index("rdma")
    gpus = [_gpu(line) for line in said[1:addresses]] if said[0] == "gpus" else None
    return {
        "hardware": Hardware(
            gpus=None if gpus is None else tuple(gpu for gpu in gpus if gpu is not None),
            addresses=tuple(found for line in said[addresses + 1 : rdma] if (found := _address(line))),
            rdma=tuple(sorted(said[rdma + 1 :])),
        )
    }


def _gpu(line: str) -> Gpu | None:
    """`0, GPU-5f…, NVIDIA H100 80GB HBM3, 81559, 4`; None for a line that says something else, such as an error."""
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != 5 or not parts[0].isdigit():
        return None
    total, used = (int(part) * MIB if part.isdigit() else 0 for part in parts[3:])
    return Gpu(int(parts[0]), parts[1], parts[2], total, used)


def _address(line: str) -> tuple[str, str] | None:
    """`2: eth0    inet 10.0.0.1/24 brd …`; a virtual pair's name is `eth0@if5`, of which the kernel knows `eth0`."""
    parts = line.split()
    if len(parts) < 4 or parts[2] not in ("inet", "inet6"):
        return None
    try:
        address = str(ipaddress.ip_address(parts[3].partition("/")[0]))
    except ValueError:
        return None
    return parts[1].rstrip(":").partition("@")[0], address


HARDWARE = Fact("hardware", _COMMAND, _hardware)

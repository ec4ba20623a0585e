"""What can be done to a host's network, power and disk, from the controller's side.

In: a machine and the size of the evil. Out: nothing; it is in force on return. `heal` undoes what was done to
the network. A power cycle does so too, since the cable is then a new one.
"""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.lab.errors import BadRequest, LabError
from tests.lab.machine import Machine
from tests.lab.switch import BRIDGE, COMMAND_TIMEOUT_S, ip

RELAY = Path(__file__).with_name("relay.py")
RELAY_READY_WITHIN_S = 10.0
MAX_DELAY_S = 60.0
MIN_RATE_BPS = 8000
MIN_BURST_BYTES = 2000


class Faults:
    """The faults of one lab. Rules of one kind replace each other; different kinds add up."""

    def __init__(self, machines: Mapping[str, Machine]) -> None:
        self._machines = machines
        self._rules: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in machines}
        self._relays: dict[str, subprocess.Popen[str]] = {}

    # Network

    def cut(self, machine: Machine) -> None:
        """Pull the cable."""
        _must_run(machine)
        ip("link", "set", machine.name, "down")

    def heal(self, machine: Machine) -> None:
        """Undo everything that was done to its network, partitions seen from its peers included."""
        _must_run(machine)
        self._forget(machine)
        for rule in self._rules[machine.name].values():
            _iptables(machine, "-D", rule)
        self._rules[machine.name].clear()
        _lift_rate(machine)
        ip("link", "set", machine.name, "master", BRIDGE, "up")

    def loss(self, machine: Machine, probability: float) -> None:
        """Lose this share of the packets that come to it."""
        if not 0 < probability <= 1:
            raise BadRequest(f"loss is a probability above 0 and up to 1, not {probability:g}")
        match = ("-m", "statistic", "--mode", "random", "--probability", f"{probability:.4f}")
        self._add_rule(machine, "loss", (*match, "-j", "DROP"))

    def refuse(self, machine: Machine, port: int) -> None:
        """Answer connections to a TCP port with a reset."""
        if not 1 <= port <= 65535:
            raise BadRequest(f"a port is a number from 1 to 65535, not {port}")
        match = ("-p", "tcp", "--dport", str(port))
        self._add_rule(machine, f"refuse {port}", (*match, "-j", "REJECT", "--reject-with", "tcp-reset"))

    def partition(self, machine: Machine, peer: Machine) -> None:
        """Let no packet pass between the two; both still reach all others."""
        if machine is peer:
            raise BadRequest(f"{machine.name} cannot be cut off from itself")
        _must_run(peer)
        for here, there in ((machine, peer), (peer, machine)):
            self._add_rule(here, f"partition {there.name}", ("-s", there.address, "-j", "DROP"))

    def rate(self, machine: Machine, bits_per_s: int) -> None:
        """Let no more than this pass, in each direction."""
        if bits_per_s < MIN_RATE_BPS:
            raise BadRequest(f"a rate is at least {MIN_RATE_BPS // 1000}kbit, not {bits_per_s} bit/s")
        _must_run(machine)
        burst_bytes = max(MIN_BURST_BYTES, bits_per_s // 8 // 100)
        bucket = ("root", "tbf", "rate", f"{bits_per_s}bit", "burst", f"{burst_bytes}b", "latency", "400ms")
        _run("tc", "qdisc", "replace", "dev", machine.name, *bucket)
        _run(*_inside(machine), "tc", "qdisc", "replace", "dev", "eth0", *bucket)

    def delay(self, machine: Machine, delay_s: float) -> None:
        """Make every frame to and from it late by this much; a round trip takes twice as long."""
        if not 0 < delay_s <= MAX_DELAY_S:
            raise BadRequest(f"a delay is above 0 and up to {MAX_DELAY_S:.0f} s, not {delay_s:g} s")
        _must_run(machine)
        self._stop_relay(machine)
        ip("link", "set", machine.name, "nomaster")
        words = [machine.name, f"{machine.name}-delay", BRIDGE, repr(delay_s)]
        relay = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-I", "-S", str(RELAY), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._relays[machine.name] = relay
        assert relay.stdout is not None
        ready = select.select([relay.stdout], [], [], RELAY_READY_WITHIN_S)[0]
        if not ready or relay.stdout.readline() != "ready\n":
            relay.kill()
            said = relay.communicate()[1].strip().split("\n")
            self._stop_relay(machine)
            ip("link", "set", machine.name, "master", BRIDGE)
            raise LabError(f"{machine.name}: the relay for the delay did not start: {said[-1]}")

    # Power, processor, disk

    def poweroff(self, machine: Machine) -> None:
        """Pull the plug."""
        machine.poweroff()
        self._forget(machine)
        self._rules[machine.name].clear()

    def poweron(self, machine: Machine) -> None:
        """Boot it with the disk that it has."""
        if machine.pid is None:
            self.poweroff(machine)  # it may have powered itself off
            machine.poweron()

    def wipe(self, machine: Machine) -> None:
        """Put a fresh disk in; boot it if it was on."""
        was_on = machine.pid is not None
        self.poweroff(machine)
        machine.disk.format()
        if was_on:
            machine.poweron()

    def freeze(self, machine: Machine) -> None:
        """Stop every process of it; its kernel still answers TCP."""
        _must_run(machine)
        machine.cgroup.freeze(True)

    def thaw(self, machine: Machine) -> None:
        """Let them go on."""
        _must_run(machine)
        machine.cgroup.freeze(False)

    def disk_full(self, machine: Machine) -> None:
        """Leave no free block on its disk."""
        machine.disk.fill()

    def disk_free(self, machine: Machine) -> None:
        """Give its disk the whole size back."""
        machine.disk.free()

    def close(self) -> None:
        """End every relay, because the lab ends."""
        for machine in self._machines.values():
            self._stop_relay(machine)

    def _add_rule(self, machine: Machine, kind: str, rule: tuple[str, ...]) -> None:
        _must_run(machine)
        rules = self._rules[machine.name]
        if kind in rules:
            _iptables(machine, "-D", rules.pop(kind))
        _iptables(machine, "-A", rule)
        rules[kind] = rule

    def _forget(self, machine: Machine) -> None:
        """Undo what others hold against it, and its slow cable."""
        self._stop_relay(machine)
        for peer in self._machines.values():
            rule = self._rules[peer.name].pop(f"partition {machine.name}", None)
            if rule and peer.pid is not None:
                _iptables(peer, "-D", rule)

    def _stop_relay(self, machine: Machine) -> None:
        relay = self._relays.pop(machine.name, None)
        if relay is not None:
            relay.kill()
            relay.communicate()


def _must_run(machine: Machine) -> None:
    if machine.pid is None:
        raise LabError(f"{machine.name} is powered off; boot it first")


def _inside(machine: Machine) -> tuple[str, ...]:
    return ("nsenter", "-t", str(machine.pid), "-n", "--")


def _lift_rate(machine: Machine) -> None:
    # There may be none; then there is nothing to do.
    _run("tc", "qdisc", "del", "dev", machine.name, "root", may_fail=True)
    _run(*_inside(machine), "tc", "qdisc", "del", "dev", "eth0", "root", may_fail=True)


def _iptables(machine: Machine, verb: str, rule: tuple[str, ...]) -> None:
    _run(*_inside(machine), "iptables", "-w", "10", verb, "INPUT", *rule)


def _run(*command: str, may_fail: bool = False) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    if done.returncode != 0 and not may_fail:
        raise LabError(f"{' '.join(command)} failed: {done.stderr.strip()}")

"""The command `scripts/lab`: a cluster to play with on one machine.

In: arguments of the command line. Out: text or JSON on standard output, one sentence on standard error
when something is wrong; exit status 0, 1 (it failed) or 2 (the command line makes no sense).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from tests.lab import inside
from tests.lab.amounts import duration_s, number, port, probability, rate_bits_per_s
from tests.lab.errors import BadRequest, LabError
from tests.lab.host import Host
from tests.lab.lab import Lab

PLAIN_FAULTS = ("cut", "heal", "poweroff", "poweron", "freeze", "thaw", "disk-full", "disk-free")
VALUE_FAULTS = {
    "loss": probability,
    "delay": duration_s,
    "rate": rate_bits_per_s,
    "refuse": port,
}

ABOUT = """\
A cluster of hosts on this one Linux machine, made of namespaces: each has its own
address, SSH server, user, disk and processes, and can be broken on purpose."""

EXAMPLES = """\
examples:
  scripts/lab start 3                 three hosts, h1 to h3, until `scripts/lab stop`
  scripts/lab hosts                   how to reach them
  scripts/lab fault h2 cut            pull the cable of h2 ...
  scripts/lab fault h2 heal           ... and put it back
  scripts/lab run 4 -- CMD            four hosts that end with CMD

faults:
  cut, heal                           no network; undo every fault of the network
  loss 0.3                            lose this share of the packets that come to the host
  delay 50ms                          every frame is late by this much, each way
  rate 64kbit                         no more than this passes, each way
  refuse PORT                         connections to the port are reset
  partition HOST                      no packet passes between the two hosts
  poweroff, poweron                   pull the plug; boot with the same disk
  freeze, thaw                        stop every process; let them go on
  disk-full, disk-free                writes fail with ENOSPC; no longer"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        raise BadRequest(f"{message}; see: scripts/lab --help")


def parser() -> argparse.ArgumentParser:
    """The whole command line. `--` and what follows it is cut off before."""
    top = _Parser(
        prog="scripts/lab",
        description=ABOUT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)

    def verb(name: str, about: str, named: bool = True) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=about, description=about, prog=f"scripts/lab {name}")
        if named:
            usual = os.environ.get("DYNO_LAB", "lab")
            made.add_argument("--name", default=usual, help=f"which lab, when several run (default: {usual})")
        return made

    for name, about in (("start", "start a lab in the background"), ("run", "run CMD beside a new lab")):
        made = verb(name, about, named=name == "start")
        made.add_argument("n", metavar="N", type=number, help="how many hosts")
        made.add_argument("--systemd", action="store_true", help="every host runs systemd")
        made.add_argument("--systemd-on", metavar="H1,H2", default="", help="only these hosts run systemd")
    verb("stop", "end the lab; nothing of it is left")
    made = verb("hosts", "print how to reach the hosts")
    made.add_argument("--json", action="store_true", help="as JSON, for programs")
    made = verb("exec", "run -- CMD on a host without SSH")
    made.add_argument("host", metavar="HOST")
    made.add_argument("--user", default="root", help="as whom (default: root)")
    made = verb("wipe", "give a host a fresh disk and boot it again")
    made.add_argument("host", metavar="HOST")
    made.add_argument("--new-host-key", action="store_true", help="as after a new installation")
    made = verb("fault", "break a host, or mend it")
    made.add_argument("host", metavar="HOST")
    made.add_argument("fault", metavar="FAULT", help="see: scripts/lab --help")
    made.add_argument("value", metavar="VALUE", nargs="?")
    return top


def fault(lab: Lab, name: str, kind: str, value: str | None) -> None:
    """Carry out `fault NAME KIND [VALUE]`."""
    host = lab[name]
    if kind in PLAIN_FAULTS:
        if value is not None:
            raise BadRequest(f"{kind} takes no value, and got {value!r}")
        getattr(host, kind.replace("-", "_"))()
        return
    if kind != "partition" and kind not in VALUE_FAULTS:
        known = ", ".join([*PLAIN_FAULTS, *VALUE_FAULTS, "partition"])
        raise BadRequest(f"there is no fault {kind!r}; the faults are {known}")
    if value is None:
        raise BadRequest(f"{kind} needs a value; see: scripts/lab --help")
    if kind == "partition":
        host.partition(lab[value])
    else:
        getattr(host, kind)(VALUE_FAULTS[kind](value))


def describe(lab: Lab) -> str:
    """The hosts as a table, and how to get in."""
    rows = [("NAME", "ADDRESS", "USER", "PORT", "INIT", "POWER")]
    for host in lab.hosts:
        power = "on" if host.powered else "off"
        rows.append((host.name, host.address, host.user, str(host.port), host.init, power))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines = [line.rstrip() for line in lines]
    lines += [
        "",
        f"key          {lab.key}",
        f"known hosts  {lab.known_hosts}",
        f"this machine {lab.here}",
        "",
    ]
    return "\n".join([*lines, f"log in with: ssh -F {lab.ssh_config} {lab.hosts[0].name}"])


def as_json(hosts: Sequence[Host]) -> str:
    """The hosts as a JSON list with stable keys."""
    return json.dumps(
        [
            {
                "name": host.name,
                "address": host.address,
                "user": host.user,
                "port": host.port,
                "key": str(host.key),
                "known_hosts": str(host.known_hosts),
                "init": host.init,
                "powered": host.powered,
            }
            for host in hosts
        ],
        indent=2,
    )


def systemd_hosts(n: int, every: bool, some: str) -> set[str]:
    """The names of the hosts that run systemd."""
    return {f"h{index}" for index in range(1, n + 1)} if every else {name for name in some.split(",") if name}


def do(words: argparse.Namespace, command: list[str]) -> int:
    """Carry out a parsed command line; `command` is what followed `--`."""
    if words.verb in ("run", "exec"):
        if not command:
            raise BadRequest(f"{words.verb} needs a command after --, as in: scripts/lab --help")
    elif command:
        raise BadRequest(f"{words.verb} takes no command after --")
    if words.verb == "run":
        return inside.enter(words.n, systemd_hosts(words.n, words.systemd, words.systemd_on), command)
    if words.verb == "start":
        lab = Lab(words.name)
        lab.start(words.n, systemd_hosts(words.n, words.systemd, words.systemd_on), detached=True)
        print(describe(lab))
        return 0
    lab = Lab.attach(words.name)
    if words.verb == "stop":
        lab.stop()
    elif words.verb == "hosts":
        print(as_json(lab.hosts) if words.json else describe(lab))
    elif words.verb == "exec":
        argv = lab[words.host].exec_argv(command, user=words.user)
        os.execvp(argv[0], argv)
    elif words.verb == "wipe":
        lab[words.host].wipe(new_host_key=words.new_host_key)
    else:
        fault(lab, words.host, words.fault, words.value)
    return 0


def main(argv: list[str]) -> int:
    """Run `scripts/lab` with these arguments, the program's name not among them."""
    cut = argv.index("--") if "--" in argv else len(argv)
    try:
        if argv[:1] == [inside.VERB]:
            return inside.run(argv[1], json.loads(argv[2]), argv[cut + 1 :])
        return do(parser().parse_args(argv[:cut]), argv[cut + 1 :])
    except BadRequest as error:
        print(f"lab: {error}", file=sys.stderr)
        return 2
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1

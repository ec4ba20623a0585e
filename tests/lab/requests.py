"""What the controller can be asked for, and the answers.

In: `{"do": "poweroff", "host": "h2", …}`. Out: `{"ok": true, …}` or `{"ok": false, "error": sentence}`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from tests.lab.errors import BadRequest, LabError
from tests.lab.machine import Machine
from tests.lab.switch import Switch

Request = Mapping[str, Any]
Answer = dict[str, Any]


class Requests:
    """Carries out requests on the machines of one lab. `stopped` becomes true by request."""

    def __init__(self, machines: Mapping[str, Machine], switch: Switch) -> None:
        self._machines = machines
        self._switch = switch
        self.stopped = False
        self._verbs: dict[str, Callable[[Request], Answer]] = {
            "stop": self._stop,
            "hosts": self._hosts,
            "poweron": self._on_machine(Machine.poweron),
            "poweroff": self._on_machine(Machine.poweroff),
            "wipe": self._on_machine(self._wipe),
        }

    def do(self, request: Request) -> Answer:
        """Carry out one request; a failure is an answer."""
        try:
            return {"ok": True, **self._verbs[request["do"]](request)}
        except BadRequest as error:
            return {"ok": False, "bad_request": True, "error": str(error)}
        except (LabError, OSError, subprocess.SubprocessError) as error:
            return {"ok": False, "error": str(error)}

    def _on_machine(self, act: Callable[[Machine], None]) -> Callable[[Request], Answer]:
        def verb(request: Request) -> Answer:
            act(self._machine(request["host"]))
            return {}

        return verb

    def _machine(self, name: str) -> Machine:
        if name not in self._machines:
            known = ", ".join(self._machines)
            raise BadRequest(f"there is no host {name!r}; the hosts are {known}")
        return self._machines[name]

    def _stop(self, request: Request) -> Answer:
        self.stopped = True
        return {}

    def _hosts(self, request: Request) -> Answer:
        hosts = [
            {
                "name": m.name,
                "address": m.address,
                "init": m.init,
                "pid": m.pid,
                "cgroup": str(m.cgroup.folder),
            }
            for m in self._machines.values()
        ]
        return {"hosts": hosts, "here": self._switch.here}

    def _wipe(self, machine: Machine) -> None:
        was_on = machine.pid is not None
        machine.poweroff()
        machine.disk.format()
        if was_on:
            machine.poweron()

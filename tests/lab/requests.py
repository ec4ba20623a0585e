"""What the controller can be asked for, and the answers.

In: `{"do": "poweroff", "host": "h2", …}`. Out: `{"ok": true, …}` or `{"ok": false, "error": sentence}`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from tests.lab.errors import BadRequest, LabError
from tests.lab.faults import Faults
from tests.lab.machine import Machine
from tests.lab.switch import Switch

Request = Mapping[str, Any]
Answer = dict[str, Any]
Act = Callable[[Machine], None]


class Requests:
    """Carries out requests on the machines of one lab. `stopped` becomes true by request."""

    def __init__(
        self, machines: Mapping[str, Machine], faults: Faults, switch: Switch, change_host_key: Act
    ) -> None:
        self._machines = machines
        self._switch = switch
        self.stopped = False
        self._verbs: dict[str, Callable[[Request], Answer]] = {
            "stop": self._stop,
            "hosts": self._hosts,
            "poweron": self._on_host(faults.poweron),
            "poweroff": self._on_host(faults.poweroff),
            "wipe": self._on_host(faults.wipe),
            "change_host_key": self._on_host(change_host_key),
            "cut": self._on_host(faults.cut),
            "heal": self._on_host(faults.heal),
            "freeze": self._on_host(faults.freeze),
            "thaw": self._on_host(faults.thaw),
            "disk_full": self._on_host(faults.disk_full),
            "disk_free": self._on_host(faults.disk_free),
            "loss": self._with_value(lambda machine, value: faults.loss(machine, float(value))),
            "refuse": self._with_value(lambda machine, value: faults.refuse(machine, int(value))),
            "delay": self._with_value(lambda machine, value: faults.delay(machine, float(value))),
            "rate": self._with_value(lambda machine, value: faults.rate(machine, int(value))),
            "partition": self._with_value(
                lambda machine, value: faults.partition(machine, self._find(value))
            ),
        }

    def do(self, request: Request) -> Answer:
        """Carry out one request; a failure is an answer."""
        try:
            return {"ok": True, **self._verbs[request["do"]](request)}
        except BadRequest as error:
            return {"ok": False, "bad_request": True, "error": str(error)}
        except (LabError, OSError, subprocess.SubprocessError) as error:
            return {"ok": False, "error": str(error)}

    def _on_host(self, act: Act) -> Callable[[Request], Answer]:
        def verb(request: Request) -> Answer:
            act(self._find(request["host"]))
            return {}

        return verb

    def _with_value(self, act: Callable[[Machine, Any], None]) -> Callable[[Request], Answer]:
        def verb(request: Request) -> Answer:
            act(self._find(request["host"]), request["value"])
            return {}

        return verb

    def _find(self, name: str) -> Machine:
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

"""A cluster of N hosts on one Linux machine, made of namespaces, each with its own sshd.

In: a number of hosts and which of them run systemd. Out: `Lab` with its `Host`s, which can be
reached over SSH and broken on purpose. Needs root; `missing()` says what else is not there.
"""

from tests.lab.errors import BadRequest, LabError
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.needs import missing
from tests.lab.process import Process

__all__ = ["BadRequest", "Host", "Lab", "LabError", "Process", "missing"]

"""What a cluster left on a host after `down`: nothing, or lines that name it.

In: a host. Out: processes of the lab's user, ports, files of clusters, their locks, cgroups, systemd units.
What was installed (programs, environments, wheels) stays on purpose: the next `up` is faster for it.
"""

from __future__ import annotations

import time

from tests.lab.disk import USER_ID
from tests.lab.host import Host

GONE_WITHIN_S = 3.0
POLL_S = 0.02

# One exec a host: each line names one thing that should not be there.
_LOOK = """
ss -Hltn | awk '{ sub(/.*:/, "", $4); if ($4 != 22) print "port " $4 " listens" }'
find /sys/fs/cgroup -type d -name 'dyno-*' | sed 's/^/cgroup /'
find /home/dyn/.dynoctl/clusters -type f 2>/dev/null | sed 's/^/file /'
find /home/dyn/.dynoctl/locks -type f ! -name '*.guard' 2>/dev/null | sed 's/^/lock /'
runtime=/run/user/$(id -u dyn)
if [ -S "$runtime/systemd/private" ]; then
    XDG_RUNTIME_DIR=$runtime setpriv --reuid dyn --regid dyn --init-groups \
        systemctl --user list-units --all --plain --no-legend 'dyno-*' | sed 's/^/systemd unit /'
fi
true
"""


def left(host: Host) -> list[str]:
    """One line for each thing of ours that does not go away by itself at once."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while True:
        found = [f"process {each}" for each in host.processes() if each.uid == USER_ID]
        found += host.exec(["sh", "-c", _LOOK], check=True).stdout.splitlines()
        if not found or time.monotonic() > deadline:
            return [f"{host.name}: {line}" for line in found]
        time.sleep(POLL_S)

"""What SSH itself costs: paramiko with TCP_NODELAY, one connection and one `true` a host, 32 at a time.

In: a JSON file with address, port, user and key of each host. Out: nothing; the time that it takes is the result.
"""

from __future__ import annotations

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paramiko

WINDOW = 32


def ask(host: dict[str, Any], key: paramiko.PKey) -> bool:
    """Connect, run `true`, disconnect."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(
        host["address"], host["port"], host["user"], pkey=key, allow_agent=False, look_for_keys=False
    )
    transport = client.get_transport()
    assert transport is not None
    assert isinstance(transport.sock, socket.socket)
    transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _, out, _ = client.exec_command("true")
    out.read()
    done = out.channel.recv_exit_status() == 0
    client.close()
    return done


def main() -> int:
    """Ask them all; 0 when each answered."""
    hosts = json.loads(Path(sys.argv[1]).read_text())
    key = paramiko.Ed25519Key.from_private_key_file(hosts[0]["key"])
    with ThreadPoolExecutor(WINDOW) as pool:
        return 0 if all(pool.map(lambda host: ask(host, key), hosts)) else 1


if __name__ == "__main__":
    sys.exit(main())

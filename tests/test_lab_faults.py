"""Each fault of the lab does what it says, and what undoes it undoes it."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.lab import BadRequest, LabError
from tests.lab.fixtures import Hosts
from tests.lab.host import Host
from tests.lab.relay import MAX_QUEUED_BYTES, Line

# Long enough for any answer of a healthy host, so that silence proves a fault.
SILENCE_S = 0.6
ANSWER_S = 15.0
PORT = 7000

# Sends back all that it got, once the client has sent everything.
ECHO = """
import socket
server = socket.create_server(("", 7000))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    with connection, connection.makefile("rwb") as stream:
        stream.write(stream.read())
"""
# Counts datagrams until one says that it was the last.
COUNT = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 7000))
print("ready", flush=True)
count = 0
while (word := server.recv(16)) != b"last":
    count += word == b"count"
print(count, flush=True)
"""


@contextlib.contextmanager
def running(host: Host, program: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program on the host, from the moment it printed `ready`."""
    argv = host.exec_argv(["/usr/bin/python3", "-c", program])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def banner(host: Host, timeout_s: float = ANSWER_S) -> bytes:
    """What sshd says first. Raises OSError."""
    with socket.create_connection((host.address, 22), timeout_s) as connection:
        return connection.recv(4)


def echo(host: Host, data: bytes) -> float:
    """Send data there and back; give the time that it took."""
    start_s = time.monotonic()
    with socket.create_connection((host.address, PORT), ANSWER_S) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        digest = hashlib.sha256()
        while piece := connection.recv(1 << 16):
            digest.update(piece)
    assert digest.digest() == hashlib.sha256(data).digest()
    return time.monotonic() - start_s


def reaches(here: Host, there: Host, within_s: float = ANSWER_S) -> bool:
    """Whether one host gets the banner of another."""
    program = (
        "import socket, sys\n"
        "with socket.create_connection((sys.argv[1], 22), float(sys.argv[2])) as c: print(c.recv(4))"
    )
    done = here.exec(["/usr/bin/python3", "-c", program, there.address, str(within_s)])
    return done.stdout == "b'SSH-'\n"


def test_cut_silences_and_heal_goes_on_where_it_was(hosts: Hosts) -> None:
    host = hosts["h1"]
    with running(host, ECHO), socket.create_connection((host.address, PORT), ANSWER_S) as connection:
        host.cut()
        with pytest.raises(TimeoutError):
            banner(host, SILENCE_S)
        connection.sendall(b"said while it was cut")
        host.heal()
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b"said while it was cut"
    assert banner(host) == b"SSH-"


def test_poweroff_says_no_goodbye(hosts: Hosts) -> None:
    host = hosts["h1"]
    with socket.create_connection((host.address, 22), ANSWER_S) as connection:
        with connection.makefile("rb") as stream:
            assert stream.readline().startswith(b"SSH-")
        host.poweroff()
        assert not host.powered
        assert host.processes() == []
        connection.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            connection.recv(1000)  # neither data nor an end
    with pytest.raises(LabError, match=r"^h1 is powered off; boot it first$"):
        host.exec(["true"])
    with pytest.raises(LabError, match=r"^h1 is powered off; boot it first$"):
        host.cut()
    host.poweron()
    assert banner(host) == b"SSH-"


@pytest.mark.parametrize("name", ["h1", "h4"])
def test_a_host_that_powers_itself_off_can_be_booted(hosts: Hosts, name: str) -> None:
    host = hosts[name]
    pid = host.exec_argv(["true"])[host.exec_argv(["true"]).index("-t") + 1]
    subprocess.run(["kill", "-KILL", pid], check=True)
    deadline_s = time.monotonic() + ANSWER_S
    while host.powered and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not host.powered
    host.poweron()
    assert banner(host) == b"SSH-"


def test_freeze_takes_connections_and_says_nothing(hosts: Hosts) -> None:
    host = hosts["h1"]
    host.freeze()
    with socket.create_connection((host.address, 22), SILENCE_S) as connection:
        with pytest.raises(TimeoutError):
            connection.recv(4)
        with pytest.raises(LabError, match=r"^h1 is frozen; thaw it first$"):
            host.exec(["true"])
        host.thaw()
        connection.settimeout(ANSWER_S)
        assert connection.recv(4) == b"SSH-"


def test_loss_loses_about_that_share(hosts: Hosts) -> None:
    host = hosts["h1"]
    with running(host, COUNT) as counter:
        host.loss(0.9)
        host.loss(0.5)  # replaces the first
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect((host.address, PORT))
            for _ in range(200):
                sender.send(b"count")
            host.heal()
            sender.send(b"last")
        assert counter.stdout is not None
        assert 50 < int(counter.stdout.readline()) < 150


def test_refuse_resets_one_port_until_heal(hosts: Hosts) -> None:
    host = hosts["h1"]
    with running(host, ECHO):
        host.refuse(22)
        with pytest.raises(ConnectionRefusedError):
            banner(host)
        echo(host, b"another port")
    host.heal()
    assert banner(host) == b"SSH-"


def test_delay_is_added_each_way_and_keeps_every_byte(hosts: Hosts) -> None:
    host = hosts["h1"]
    delay_s = 0.05
    with running(host, ECHO):
        host.delay(delay_s)
        start_s = time.monotonic()
        with socket.create_connection((host.address, PORT), ANSWER_S):
            assert time.monotonic() - start_s >= 2 * delay_s
        host.delay(delay_s / 10)  # replaces the first
        echo(host, bytes(range(256)) * 20_000)
        host.heal()
        echo(host, b"healed")


def test_rate_bounds_what_passes(hosts: Hosts) -> None:
    host = hosts["h1"]
    data = bytes(60_000)
    with running(host, ECHO):
        host.rate(1_000_000)
        limited_s = echo(host, data)
        host.heal()
        free_s = echo(host, data)
    # One way takes 0.48 s at this rate; a bucket's worth of it may pass at once.
    assert limited_s > 0.4
    assert free_s < limited_s


def test_partition_is_between_two_and_both_ways(hosts: Hosts) -> None:
    first, second, third = hosts[:3]
    second.partition(first)
    assert not reaches(first, second, SILENCE_S)
    assert not reaches(second, first, SILENCE_S)
    assert reaches(third, first)
    assert reaches(third, second)
    second.heal()
    assert reaches(first, second)
    assert reaches(second, first)


def test_a_power_cycle_ends_a_partition_on_both_sides(hosts: Hosts) -> None:
    first, second = hosts[:2]
    second.partition(first)
    second.power_cycle()
    assert reaches(first, second)
    assert reaches(second, first)


def test_disk_full_fails_writes_until_free(hosts: Hosts) -> None:
    host = hosts["h1"]
    host.disk_full()
    done = host.exec(["sh", "-c", "head -c 100000 /dev/zero >file"], user="dyn")
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
    host.disk_free()
    done = host.exec(["sh", "-c", "head -c 100000 /dev/zero >file && wc -c <file"], user="dyn")
    assert (done.stdout.strip(), done.returncode) == ("100000", 0)


def test_bad_sizes_are_refused_with_a_sentence(hosts: Hosts) -> None:
    host = hosts["h1"]
    with pytest.raises(BadRequest, match=r"^loss is a probability above 0 and up to 1, not 1\.5$"):
        host.loss(1.5)
    with pytest.raises(BadRequest, match=r"^a port is a number from 1 to 65535, not 70000$"):
        host.refuse(70000)
    with pytest.raises(BadRequest, match=r"^a delay is above 0 and up to 60 s, not 61 s$"):
        host.delay(61)
    with pytest.raises(BadRequest, match=r"^a rate is at least 8kbit, not 100 bit/s$"):
        host.rate(100)
    with pytest.raises(BadRequest, match=r"^h1 cannot be cut off from itself$"):
        host.partition(host)


def test_a_delayed_line_keeps_order_and_is_bounded() -> None:
    half = bytes(MAX_QUEUED_BYTES // 2)
    arriving = [b"first", b"second", half, half, b"last"]
    left: list[bytes] = []

    def read() -> bytes:
        if not arriving:
            raise BlockingIOError
        return arriving.pop(0)

    line = Line(read, left.append, delay_s=2.0)
    line.take(10.0)
    assert line.due_s() == 12.0
    line.give(11.9)
    assert left == []
    line.give(12.0)
    # The second half did not fit and was lost, as in a queue that overflows.
    assert left == [b"first", b"second", half, b"last"]
    assert line.due_s() is None

"""A service like one of the runtime: it listens, and says of itself how far it is.

Arguments: port, seconds until it listens, seconds until its engine is ready (or `failed`), and `child` where a
child of it shall hold the port.
"""

import json
import os
import socket
import sys
import time
from pathlib import Path

port, listens_s, engine = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
start_s = time.clock_gettime(time.CLOCK_BOOTTIME)


def say(engine: str, *, registered: bool) -> None:
    role = {
        "port": True,
        "registered": registered,
        "engine": engine,
        "lease": "1",
        "problem": PROBLEMS[engine],
    }
    beat_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    health = {
        "unit": "a-0",
        "pid": os.getpid(),
        "beat_s": beat_s,
        "roles": {"decode": role},
        "sees": {},
        "bus": {},
    }
    beside = Path("health.tmp")
    beside.write_text(json.dumps(health))
    beside.replace("health.json")


PROBLEMS = {"none": None, "loading": None, "ready": None, "failed": "no such model"}
time.sleep(listens_s)
if "child" in sys.argv and os.fork():
    time.sleep(600)
listener = socket.create_server(("127.0.0.1", port))
print("listening", flush=True)
say("loading", registered=False)
if engine == "failed":
    say("failed", registered=True)
    time.sleep(600)
say("loading", registered=True)
time.sleep(float(engine))
while True:
    say("ready", registered=True)
    time.sleep(0.2)

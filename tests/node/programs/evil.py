"""A service that does not want to end: four processes that ignore SIGTERM, three of them escaped.

One stays in the process group; one has double-forked into a session of its own; one has also cleared its
environment. Each writes its pid into the file `pids` of the folder it was started in.
"""

import os
import signal
import sys
import time

STAY = "import os, signal, time; signal.signal(15, signal.SIG_IGN); {say}; time.sleep(600)"
SAY = "open('pids', 'a').write(str(os.getpid()) + '\\n')"


def stay() -> None:
    exec(STAY.format(say=SAY), {"os": os, "signal": signal, "time": time})


def escape(*, bare: bool) -> None:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    if bare:
        os.execve(sys.executable, [sys.executable, "-c", STAY.format(say=SAY)], {})
    stay()


signal.signal(signal.SIGTERM, signal.SIG_IGN)
escape(bare=False)
if "--keep-environment" not in sys.argv:
    escape(bare=True)
else:
    escape(bare=False)
if os.fork() == 0:
    stay()
stay()

"""Drains a worker of which some threads hang: drain.py hanging|nothing SOCKET LOG COMMAND...

Starts the command, delivers once, stops all threads that do the work (by ptrace(2)) where they are to hang, and sends
SIGTERM. Ends with the worker's exit status.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time

import sockets

PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
hanging, path, log, *command = sys.argv[1:]
signal.alarm(600)
with open(log, "wb") as stderr:
    pid = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr).pid
while b" serves on " not in open(log, "rb").read():
    time.sleep(0.02)
client = sockets.Client(path)
while client.post(sockets.new_body()) != 201:
    pass  # its deadline is a short one
libc = ctypes.CDLL(None, use_errno=True)
for thread in os.listdir(f"/proc/{pid}/task") if hanging == "hanging" else []:
    if int(thread) != pid and open(f"/proc/{pid}/task/{thread}/comm").read() != "log\n":
        for request in PTRACE_SEIZE, PTRACE_INTERRUPT:
            sockets.must(libc.ptrace(request, int(thread), None, None) == 0, f"{thread} is stopped")
os.kill(pid, signal.SIGTERM)
ended = None
while ended != pid or not (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
    ended, status = os.waitpid(-1, WALL)
sys.exit(os.waitstatus_to_exitcode(status))

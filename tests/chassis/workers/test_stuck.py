"""A worker whose loop hangs in a call ends its process; one that beats, or was suspended as a whole, does not."""

import os
import signal
import subprocess
import sys
import time

from embedded.system import ROOT

PROGRAM = """
import ctypes, sys, threading, time
sys.path.insert(0, "platform")
from chassis.health.heartbeat import Heartbeat
from chassis.workers.stuck import terminate_if_stuck
heartbeat = Heartbeat("test")
threading.Thread(target=terminate_if_stuck, args=(heartbeat, 4.0, threading.Event()), daemon=True).start()
for _ in range(4):
    time.sleep(2.0)
    heartbeat.beat()
print("beaten", flush=True)
time.sleep(1.0)  # the process is suspended here
heartbeat.beat()
print("resumed", flush=True)
ctypes.CDLL(None).sleep(1000)
print("never printed", flush=True)
"""


def test_only_a_loop_that_does_not_beat_ends_the_process():
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "beaten\n"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(8)
        os.kill(process.pid, signal.SIGCONT)
        assert process.stdout.readline() == "resumed\n"
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()

    assert process.returncode == 1
    [line] = rest.splitlines()
    assert "the loop is stuck, terminating the process" in line
    assert "<module>" in line, "the log says where"

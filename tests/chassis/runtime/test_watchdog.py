"""A hanging call ends the process; calls that return do not, however many."""

import subprocess
import sys

from embedded.system import ROOT

PROGRAM = """
import sys, time
sys.path.insert(0, "platform")
from chassis.runtime.watchdog import Watchdog
watchdog = Watchdog("a call", 2.0)
for _ in range(4):
    with watchdog:
        time.sleep(0.6)
time.sleep(2.5)
print("came back", flush=True)
with watchdog:
    time.sleep(100)
print("never said", flush=True)
"""


def test_only_a_hanging_call_ends_the_process():
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 1
    said = ended.stdout.splitlines()
    assert said[0] == "came back"
    assert "a call does not return" in said[1]
    assert len(said) == 2

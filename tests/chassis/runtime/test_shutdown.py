"""A loop stops when it is told to, also if a library has taken the signal meanwhile. Each case is a process of its own."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from chassis.runtime.shutdown import Stop

PROGRAM = """
import os, signal, time
from chassis.runtime.shutdown import Stop

def tell():
    os.kill(os.getpid(), signal.SIGTERM)

def caught():
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    tell()
    signal.signal(signal.SIGTERM, before)

def taken():
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    tell()

def blocked():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    tell()

def fails():
    def fail(number, frame):
        raise ValueError
    signal.signal(signal.SIGTERM, fail)
    try:
        tell()
    except ValueError:
        pass

def of_a_child():
    if (child := os.fork()) == 0:
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
        tell()
        time.sleep(60)
    os.waitpid(child, 0)

def another_signal():
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    os.kill(os.getpid(), signal.SIGUSR1)

def takes_the_pipe():
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, lambda number, frame: None)

stop = Stop(signal.SIGTERM)
for work in WORK:
    work()
    assert not stop or work is tell, "before the end of the work"
    stop.keep_signals()
print(bool(stop))
"""


def stopped(*work: str) -> bool:
    """Whether the loop was told to stop by the end of this work."""
    program = PROGRAM.replace("WORK", f"[{', '.join(work)}]")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": "platform"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1] == "True"


@pytest.mark.parametrize("way", ["tell", "caught", "taken", "blocked", "fails"])
def test_a_signal_during_the_work_is_never_lost(way):
    assert stopped(way)


@pytest.mark.parametrize("way", ["of_a_child", "another_signal", "takes_the_pipe"])
def test_what_is_not_a_signal_to_stop_does_not_stop_it(way):
    assert not stopped(way)


def test_it_recovers_from_a_library_that_takes_both_the_signal_and_its_pipe():
    assert stopped("takes_the_pipe", "caught")


def test_a_loop_without_signals_may_run_in_any_thread():
    with ThreadPoolExecutor() as pool:
        pool.submit(Stop().keep_signals).result()

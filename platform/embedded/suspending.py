"""Suspended processes that do not stay suspended when this process dies.

A suspended process handles no signal but SIGKILL. When this process is killed, its suspended children, and the suspended
children of those that the kernel kills with it, would otherwise keep their ports and locks forever.
"""

import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from embedded.signals import signal_all

STOPPED = {"T", "t", "Z", "X"}
"""The states of a thread that runs no more: proc_pid_stat(5)."""
STOPS_WITHIN = 10.0
"""How long a process has to stop, in seconds: one that waits for the disk stops afterwards."""

# It reads until the other end of its input is closed, which the kernel does too when this process dies.
_GUARD = 'read -r _; kill -s CONT -- "$@"'


class _Suspended:
    """What is suspended, and its guard: a process that lets it continue when this one ends."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "sh", *map(str, pids)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not end it
        )

    def dismiss(self) -> None:
        """End the guard, without a signal to what is suspended."""
        self._guard.kill()
        self._guard.communicate()


_lock = threading.Lock()
_suspended: dict[int, _Suspended] = {}


def suspend(leader: int, pids: Iterable[int]) -> None:
    """Suspend these processes until `resume` is called for their leader, or this process dies. They have stopped on return."""
    found = list(pids)
    with _lock:
        before = _suspended.get(leader)
        _suspended[leader] = _Suspended(found)
        if before is not None:
            before.dismiss()
    signal_all(found, signal.SIGSTOP)
    deadline = time.monotonic() + STOPS_WITHIN
    while any(map(_is_running, found)) and time.monotonic() < deadline:
        time.sleep(0.001)


def _is_running(pid: int) -> bool:
    """Whether no thread of a process has stopped yet.

    The kernel tells one thread of the signal. The others run on until that one has received it, which takes as long as the
    thread waits for a processor.
    """
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks]
    except OSError:  # it has ended, or this system has no /proc
        return False
    return not {*states} & STOPPED


def resume(leader: int, pids: Iterable[int] = ()) -> None:
    """Let the processes that were suspended with this leader continue, and these."""
    with _lock:
        before = _suspended.pop(leader, None)
        signal_all([*(before.pids if before else ()), *pids], signal.SIGCONT)
        if before is not None:
            before.dismiss()

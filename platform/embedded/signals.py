"""Processes and their descendants, and signals to all of them."""

import contextlib
import os
import subprocess
from collections.abc import Sequence


def descendants(pid: int) -> list[int]:
    """The process ids of all children, grandchildren and so on."""
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listing.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    pending = [pid]
    while pending:
        more = children.get(pending.pop(), [])
        found += more
        pending += more
    return found


def signal_all(pids: Sequence[int], signum: int) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)

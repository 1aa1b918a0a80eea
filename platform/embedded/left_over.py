"""The PostgreSQL server of a run that was killed: it may still be stopping, or be suspended, when the next run starts."""

import signal
import time
from pathlib import Path

from embedded.signals import descendants, signal_all

GRACE = 10.0
"""How long the server has to stop, in seconds."""


def end_server(folder: Path) -> bool:
    """End the server that runs with the data in `folder`, and return whether there was one.

    Call it only if no other run uses the folder. On systems without /proc it finds none.
    """
    data = folder / "data"
    pid = _pid_in(data / "postmaster.pid")
    if pid is None or not _is_in(pid, data):
        return False
    family = [pid, *descendants(pid)]
    signal_all([pid], signal.SIGINT)
    signal_all(family, signal.SIGCONT)
    deadline = time.monotonic() + GRACE
    while _is_in(pid, data):
        if time.monotonic() > deadline:
            signal_all([pid, *descendants(pid)], signal.SIGKILL)
        time.sleep(0.05)
    return True


def _pid_in(pid_file: Path) -> int | None:
    try:
        first = pid_file.read_text().partition("\n")[0].strip()
    except FileNotFoundError:
        return None
    return int(first) if first.isascii() and first.isdecimal() and len(first) < 10 else None


def _is_in(pid: int, data: Path) -> bool:
    """Whether a process works in this folder: the number may be that of another program by now. A zombie works in none."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == data.resolve()
    except OSError:
        return False

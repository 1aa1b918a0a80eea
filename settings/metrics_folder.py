"""The folder in which several web processes of one service share their metrics: private, in memory if possible, temporary.

A folder that a killed process left behind is removed by the next start: it is no longer locked.
"""

import atexit
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Read by prometheus_client, when it is imported and when it opens a file."""

MEMORY = "/dev/shm"  # noqa: S108  only folders that mkdtemp creates are used
PREFIX = "web-metrics-"


class _Folder:
    path: Path | None = None
    lock = -1
    owner = 0


def prepare(processes: int) -> None:
    """Create the folder, if there is more than one process, and set PROMETHEUS_MULTIPROC_DIR. A second call has no effect.

    Exits with a message if no place for it is writable.
    """
    if _Folder.path is not None:
        return
    # It may be inherited, from a main process that is being replaced (SIGUSR2).
    os.environ.pop(VARIABLE, None)
    if processes < 2:
        return
    for place in _places():
        try:
            _remove_abandoned(place)
            _Folder.path, _Folder.lock = _create(place)
        except OSError:
            continue
        _Folder.owner = os.getpid()
        os.environ[VARIABLE] = os.fspath(_Folder.path)
        atexit.register(remove)
        return
    sys.exit("WEB_CONCURRENCY exceeds 1, which needs a writable folder for metrics: /dev/shm, or the one in TMPDIR")


def is_prepared() -> bool:
    """Whether there is a folder, because there is more than one process."""
    return _Folder.path is not None


def remove() -> None:
    """Remove the folder, in the process that has created it."""
    if _Folder.path is not None and _Folder.owner == os.getpid():
        shutil.rmtree(_Folder.path, ignore_errors=True)


def _places() -> Iterator[Path]:
    if Path(MEMORY).is_dir():
        yield Path(MEMORY)
    try:
        yield Path(tempfile.gettempdir())
    except FileNotFoundError:
        return


def _create(place: Path) -> tuple[Path, int]:
    """A new folder and the lock on it, which the forked processes share: it lasts until the last of them ends."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        if (lock := _try_lock(path)) is not None:
            return path, lock
        # Another start took it for abandoned before it was locked, and removes it.


def _remove_abandoned(place: Path) -> None:
    for path in place.glob(f"{PREFIX}*"):
        if path.stat().st_uid == os.getuid() and (lock := _try_lock(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _try_lock(path: Path) -> int | None:
    """Lock a folder. None if another process holds the lock, or has removed the folder."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock

"""The one place outside the repository where files are kept: `$XDG_CACHE_HOME` or `~/.cache`, in a folder of our own.

It holds what was downloaded, and the throw-away folders of running demos and tests. Those are deleted when their owner
ends; those whose owner was killed are deleted by the next one.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = "django-microservices"


def home() -> Path:
    """The cache folder; made if it is missing."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification: a relative path is to be ignored.
    folder = (base if base.is_absolute() else Path.home() / ".cache") / PROJECT
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def readable_home() -> Path:
    """The cache folder, or for root, whose home other users may not enter, one under /var/cache that they can read."""
    folder = home()
    if os.geteuid() != 0 or enterable_by_others(folder):
        return folder
    folder = Path("/var/cache") / PROJECT
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    return folder


def enterable_by_others(folder: Path) -> bool:
    """Whether any user may reach the folder: it and all above it give everyone leave to pass."""
    real = folder.resolve()
    return all(part.stat().st_mode & 0o001 for part in (real, *real.parents))


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the cache's lock of that name; another process that wants it waits. It ends with the process, however that ends."""
    with (home() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def throwaway(name: str) -> Iterator[Path]:
    """A folder for one run, deleted afterwards; first deletes those whose owners were killed before they could."""
    runs = home() / "runs"
    runs.mkdir(exist_ok=True)
    with lock("runs"):
        _sweep(runs)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=runs))
        owner = (folder / "owner").open("w")
        fcntl.flock(owner, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        owner.close()


def _sweep(runs: Path) -> None:
    for folder in runs.iterdir():
        if not _is_owned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_owned(folder: Path) -> bool:
    try:
        with (folder / "owner").open("a") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # half made or half deleted
    return False

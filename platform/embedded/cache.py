"""The only folder outside the repository that is written to, in `$XDG_CACHE_HOME` or `~/.cache`.

It contains the downloads, and the temporary folders of running demos and tests. A temporary folder is deleted when its
owner exits; if the owner was killed, the next run deletes it.
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
    """The cache folder, created if it does not exist."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says to ignore relative paths.
    folder = (base if base.is_absolute() else Path.home() / ".cache") / PROJECT
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def readable_home() -> Path:
    """The cache folder, or one under /var/cache for root, whose home other users may not be able to access."""
    folder = home()
    if os.geteuid() != 0 or accessible_to_others(folder):
        return folder
    folder = Path("/var/cache") / PROJECT
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    return folder


def accessible_to_others(folder: Path) -> bool:
    """Whether every user can access the folder: it and all its parents have the execute bit for others."""
    real = folder.resolve()
    return all(part.stat().st_mode & 0o001 for part in (real, *real.parents))


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the lock of that name, waiting for other processes. The kernel releases it when the process exits."""
    with (home() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """A folder for one run, deleted afterwards. Folders left by killed owners are deleted first."""
    runs = home() / "runs"
    runs.mkdir(exist_ok=True)
    with lock("runs"):
        _delete_orphans(runs)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=runs))
        owner = (folder / "owner").open("w")
        fcntl.flock(owner, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        owner.close()


def _delete_orphans(runs: Path) -> None:
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
        return False  # partly created or partly deleted
    return False

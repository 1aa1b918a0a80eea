"""The metrics of several web processes behind one port: each writes its own to a common folder, and any of them can be scraped.

`settings/gunicorn.py` creates the folder and sets PROMETHEUS_MULTIPROC_DIR, where prometheus_client keeps a file for each
process and type of metric. The counters of a process that has ended are kept, since they must not decrease, but not its files.
"""

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from chassis.observability import catalogue

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
KEPT = ("counter", "histogram")
"""The types whose values remain when a process ends."""
ENDED = 0
"""In the name of a file: the sum of all processes that have ended."""

_LIVE = re.compile(r"gauge_live\w*_(\d+)\.db")

log = structlog.get_logger(__name__)


def is_enabled() -> bool:
    """Whether this process shares its metrics with others."""
    return VARIABLE in os.environ


def registry() -> CollectorRegistry:
    """The metrics of all processes, combined."""
    combined = CollectorRegistry()
    combined.register(_Combined())
    combined.register(_Processes())
    PlatformCollector(combined)
    return combined


class _Combined(Collector):
    """The metrics that this kind of process exports. (The files contain all that are defined.)"""

    def collect(self) -> Iterable[Metric]:
        with _locked(fcntl.LOCK_SH):
            files = [os.fspath(path) for path in _folder().glob("*.db") if _has_content(path)]
            found: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        hidden = catalogue.hidden()
        return [metric for metric in found if metric.name not in hidden]


def _has_content(path: Path) -> bool:
    """Whether there is something in a file: one that a process is creating is empty, one of a process that ends may be gone."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


class _Processes(Collector):
    """Memory, processor time, open files and start of each process, with its `pid`; nothing on a system without /proc."""

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for pid in sorted({int(match[1]) for path in _folder().iterdir() if (match := _LIVE.fullmatch(path.name))}):
            for one in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                family = families.setdefault(one.name, Metric(one.name, one.documentation, one.type))
                for each in one.samples:
                    family.add_sample(each.name, {**each.labels, "pid": str(pid)}, each.value)
        return families.values()


def discard_main_process() -> None:
    """In the main process, before it forks: remove what it has written, since it serves no requests."""
    for path in _folder().glob(f"*_{os.getpid()}.db"):
        path.unlink()


_ended: set[int] = set()


def remove_ended(pid: int) -> None:
    """In the main process, when a process has ended: add its counters to those of others that have ended; remove its files.

    The main process never waits: if another process is reading, the files remain until the next one ends.
    """
    mark_process_dead(pid, os.fspath(_folder()))  # type: ignore[no-untyped-call]
    _ended.add(pid)
    with _locked(fcntl.LOCK_EX | fcntl.LOCK_NB) as is_locked:
        if not is_locked:
            return
        for kind in KEPT:
            _add_up(kind)
        _ended.clear()


def _add_up(kind: str) -> None:
    """Add up the values of ended processes. They are in one file or the other, never in both or none, whatever fails."""
    folder = _folder()
    files = [path for pid in _ended if (path := folder / f"{kind}_{pid}.db").exists()]
    if not files:
        return
    total = folder / f"{kind}_{ENDED}.db"
    values: dict[str, float] = {}
    for path in [total, *files] if total.exists() else files:
        if path.stat().st_size:
            for key, value, *_ in MmapedDict.read_all_values_from_file(os.fspath(path)):  # type: ignore[no-untyped-call]
                values[key] = values.get(key, 0.0) + value
    staging = folder / f"{kind}.new"
    staging.unlink(missing_ok=True)
    written = MmapedDict(os.fspath(staging))  # type: ignore[no-untyped-call]
    for key, value in values.items():
        written.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    written.close()  # type: ignore[no-untyped-call]
    staging.replace(total)
    for path in files:
        path.unlink()


@contextmanager
def _locked(operation: int) -> Iterator[bool]:
    """Lock the folder. Yields False if another process holds the lock and `operation` does not wait."""
    with (_folder() / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, operation)
            is_locked = True
        except BlockingIOError:
            is_locked = False
        yield is_locked


def _folder() -> Path:
    return Path(os.environ[VARIABLE])

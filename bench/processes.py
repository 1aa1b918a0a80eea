"""The CPU time and memory of processes, read from /proc."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.live import Live
from embedded.signals import descendants

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Memory:
    """Memory in MiB. `pss` counts a page that several processes share once in total; `rss` counts it for each process."""

    rss: float
    pss: float


def memory(pids: Iterable[int]) -> Memory:
    """The total memory of these processes."""
    fields: dict[str, int] = {"Rss:": 0, "Pss:": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, *rest = line.split()
            if name in fields:
                fields[name] += int(rest[0])
    return Memory(fields["Rss:"] / 1024, fields["Pss:"] / 1024)


def seconds(pids: Iterable[int]) -> float:
    """The total CPU time of these processes and their exited children, in seconds."""
    total = 0
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except FileNotFoundError:
            continue
        total += sum(map(int, stat.rpartition(")")[2].split()[11:15]))
    return total / TICKS


def process_ids(live: Live) -> Mapping[str, list[int]]:
    """The process ids of each part of the system, including the engines, by name."""
    parts = {name: child.family() for name, child in live.children.items()}
    parts["postgres"] = live.engines.postgres.child.family()
    parts["kafka"] = [pid for node in live.engines.kafka.members for pid in node.child.family()]
    return parts


def of_multiprocessing() -> list[int]:
    """The fork server of this process, and what else the library has started for it."""
    return [pid for pid in descendants(os.getpid()) if b"from multiprocessing." in _command_line(pid)]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:  # it has ended
        return b""


def used(live: Live) -> dict[str, float]:
    """The CPU time that each part has used, in seconds."""
    return {name: seconds(pids) for name, pids in process_ids(live).items()}

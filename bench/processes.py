"""What processes cost: processor time and memory, read from /proc."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.live import Live

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Memory:
    """In MiB. `pss` counts a page that several processes share once in all; `rss` counts it for each."""

    rss: float
    pss: float


def memory(pids: Iterable[int]) -> Memory:
    """What these processes hold together."""
    fields: dict[str, int] = {"Rss:": 0, "Pss:": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, *rest = line.split()
            if name in fields:
                fields[name] += int(rest[0])
    return Memory(fields["Rss:"] / 1024, fields["Pss:"] / 1024)


def seconds(pids: Iterable[int]) -> float:
    """Processor time that these processes have used so far, their ended children included."""
    total = 0
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except FileNotFoundError:
            continue
        total += sum(map(int, stat.rpartition(")")[2].split()[11:15]))
    return total / TICKS


def everyone(live: Live) -> Mapping[str, list[int]]:
    """The process ids of each part of the system, the engines included, by name."""
    parts = {name: child.family() for name, child in live.children.items()}
    parts["postgres"] = live.engines.postgres.child.family()
    parts["kafka"] = [pid for node in live.engines.kafka.members for pid in node.child.family()]
    return parts


def used(live: Live) -> dict[str, float]:
    """Processor time used so far by each part, in seconds."""
    return {name: seconds(pids) for name, pids in everyone(live).items()}

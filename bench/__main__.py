"""`make bench`: measures speed and memory, each with a reference, and prints the table.

make bench ARGS="--only story drain"    some of the measurements
make bench ARGS=--write                 also writes the table to docs/benchmarks.md
make bench ARGS=--guard                 a short run, which fails if a ratio is much worse than the one in docs/benchmarks.md
"""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import confluent_kafka
import django

from bench import console, gateway, goals, guard, table
from bench.live import running
from embedded.engines import prepare
from embedded.errors import EmbeddedError

ROUNDS = 3
BUSY = 0.5
WHAT = ["gateway", *goals.SYSTEM, "console"]
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def main() -> int:
    """Run the chosen measurements. The exit status is 0 even if a goal is missed, since that depends on the machine."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure speed and memory, each with a reference.")
    parser.add_argument("--only", nargs="+", choices=WHAT, default=WHAT)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--write", action="store_true", help=f"write the table to {DOCUMENT.name}")
    parser.add_argument("--guard", action="store_true", help=f"fail if a ratio is much worse than in {DOCUMENT.name}")
    options = parser.parse_args()
    warning = _warn_if_busy()
    try:
        if options.guard:
            return _guard()
        measured = _measure(options.only, options.rounds)
    except EmbeddedError as error:
        print(f"bench failed: {error}", file=sys.stderr)
        return 1
    text = table.markdown([row for rows in measured.values() for row in rows]) + "\n" + _context(options.rounds)
    print(text)
    if options.write:
        DOCUMENT.write_text(f"{HEAD}\n{text}")
    if warning:
        print(warning, file=sys.stderr)
    return 0


def _guard() -> int:
    def measure(names: Sequence[str]) -> dict[str, list[table.Row]]:
        measured = _measure(names, rounds=1)
        print(table.markdown([row for rows in measured.values() for row in rows]))
        return measured

    found = guard.check(measure, DOCUMENT.read_text())
    for line in found:
        print(f"slower than before: {line}", file=sys.stderr)
    return 1 if found else 0


def _measure(names: Sequence[str], rounds: int) -> dict[str, list[table.Row]]:
    """The rows of these measurements, by name, in the order of the table."""
    measured = {"gateway": gateway.measure(rounds=rounds)} if "gateway" in names else {}
    system = [name for name in goals.SYSTEM if name in names]
    if system:
        prepare()
        print("Starting the system", file=sys.stderr, flush=True)
        with running() as live:
            measured |= goals.measure(live, system, rounds)
    if "console" in names:
        prepare()
        measured["console"] = console.measure(rounds)
    return measured


def _context(rounds: int) -> str:
    versions = {
        "Python": platform.python_version(),
        "Django": django.__version__,
        "librdkafka": confluent_kafka.libversion()[0],
    }
    version_list = ", ".join(f"{name} {version}" for name, version in versions.items())
    cores = len(os.sched_getaffinity(0))
    return (
        f"{rounds} rounds, each interleaved with its reference; ratios are the medians over the rounds. {cores} cores, {version_list},"
        " PostgreSQL 18 and Apache Kafka 4.3 as `make up` starts them (`fsync`, `acks=all`, one broker), on the same"
        " cores as all processes and the measuring program.\n"
    )


def _warn_if_busy() -> str:
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load < cores * BUSY:
        return ""
    warning = f"Other programs use this machine (load {load:.1f} on {cores} cores): only the ratios are meaningful."
    print(warning, file=sys.stderr, flush=True)
    return warning


HEAD = """\
# Benchmarks

`make bench` produces these measurements on a separate system with temporary data; `make bench ARGS=--write` writes this
page. The gateway's row needs `nginx` and `wrk`, two Debian packages.

The original, a system of four NestJS services, was measured on another machine: 840 to 1,060 requests/s at its gateway
(0.017 of nginx), about 520 orders/s, 598 MiB.
"""


if __name__ == "__main__":
    sys.exit(main())

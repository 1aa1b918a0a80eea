"""Measures this version beside another one of this repository, both running at the same time, in turns.

    git worktree add ../before 1e364a4 && make -C ../before environment
    PYTHONPATH=platform .venv/bin/python -m bench.against ../before [--rounds 3] [--seconds 8] [--events 5000]

Requires `wrk`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2

from bench import load
from bench.table import Row, each, markdown, ratio
from bench.writes import REQUEST
from embedded.system import ROOT

GET, POST, CPU = 4.0, 3.0, 0.5
"""The goals: throughput of reads and of writes, and CPU time per order, beside 1e364a4."""

# Every version since 1e364a4 has these two modules.
PROGRAM = """
import json, sys
from bench.drain import drain
from bench.live import running
with running() as live:
    print(json.dumps(live.ports), flush=True)
    for line in sys.stdin:
        print(json.dumps(drain(live, int(line)).cost), flush=True)
"""


class Version:
    """A running system of one version."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self._program = program
        self._ports: dict[str, int] = self._line()
        created = httpx2.post(f"{self.gateway}/api/users", json={"email": "a@example.org", "name": "Ada Lovelace"})
        self.user = f"http://127.0.0.1:{self._ports['users']}/users/{created.raise_for_status().json()['id']}"

    @property
    def gateway(self) -> str:
        """The URL of its gateway."""
        return f"http://127.0.0.1:{self._ports['gateway']}"

    def drain(self, events: int) -> float:
        """The CPU time of all processes, PostgreSQL and Kafka per order, in microseconds, of so many waiting events."""
        assert self._program.stdin is not None
        self._program.stdin.write(f"{events}\n")
        self._program.stdin.flush()
        return float(sum(self._line().values()))

    def _line(self) -> dict[str, int]:
        assert self._program.stdout is not None
        line = self._program.stdout.readline()
        assert line, "the system ended; its messages are above"
        found: dict[str, int] = json.loads(line)
        return found


@contextmanager
def running(folder: Path) -> Iterator[Version]:
    """Run the system of the version in a folder, which has its environment in `.venv`."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{folder / 'platform'}"}
    with subprocess.Popen(
        [str(folder / ".venv" / "bin" / "python"), "-c", PROGRAM],
        cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as program:  # fmt: skip
        yield Version(program)  # the program ends when its input is closed


def measure(ours: Version, theirs: Version, rounds: int, seconds: int, events: int) -> list[Row]:
    """Measure both in turns, and return a row for reads, one for writes and one for events."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        script = Path(name) / "post.lua"
        script.write_text(REQUEST)
        return [
            _row(
                "`GET /users/{id}` at the service, requests/s",
                _turns(rounds, lambda one: load.run(one.user, seconds).per_second, ours, theirs),
                f"≥ {GET:g}",
                lambda found: found >= GET,
            ),
            _row(
                f"`POST /api/users` through the gateway, everything running, {load.CONNECTIONS} connections, requests/s",
                _turns(
                    rounds,
                    lambda one: load.run(f"{one.gateway}/api/users", seconds, script=script).per_second,
                    ours,
                    theirs,
                ),
                f"≥ {POST:g}",
                lambda found: found >= POST,
            ),
            _row(
                f"{events:,} `user.created` waiting → all orders settled, µs of CPU time per order",
                _turns(rounds, lambda one: one.drain(events), ours, theirs),
                f"≤ {CPU:g}",
                lambda found: found <= CPU,
            ),
        ]


def _turns(
    rounds: int, one: Callable[[Version], float], ours: Version, theirs: Version
) -> tuple[list[float], list[float]]:
    one(ours), one(theirs)  # warm
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        found[0].append(one(ours))
        found[1].append(one(theirs))
    return found


def _row(what: str, found: tuple[list[float], list[float]], goal: str, is_met: Callable[[float], bool]) -> Row:
    value = ratio(*found)
    return Row(what, each(found[0]), f"the other version: {each(found[1])}", value, goal, is_met(value))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a working tree of the other version, with its environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--events", type=int, default=5000)
    options = parser.parse_args()
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(running(folder)) for folder in (ROOT, options.folder.resolve()))
        print(markdown(measure(ours, theirs, options.rounds, options.seconds, options.events)))


if __name__ == "__main__":
    main()

"""Consumers of orders join and leave every three seconds for two minutes, under a constant load."""

import itertools
import time
from itertools import pairwise

import pytest

from embedded.processes import drive
from tests.acceptance.harness import READY_WITHIN
from tests.acceptance.keyed_load import check_order_per_key, handled, joined
from tests.acceptance.ledger import settle
from tests.drills.measures import now

pytestmark = pytest.mark.drill

LASTS, EVERY = 120.0, 3.0
ANONYMOUS = {"CONSUMER_ID": ""}
"""A member that the group has never seen; the others have names, under which they come back."""


class Storm:
    """What is done to the consumers, one thing at a time.

    Nobody is sent away before those who have come are ready, as anything that watches over processes would have it; where
    one starts in less than three seconds, nothing waits for that.
    """

    def __init__(self, system) -> None:
        self._system = system
        self.statuses: list[int] = []
        self._leaving: list = []
        self.done = {"joins": 0, "SIGTERM": 0, "kill -9 and restart": 0}
        self.diary: list[tuple[float, str]] = []

    def join(self, name: str, **changes: str) -> None:
        self._system.spawn(name, **changes)
        self._note("joins", name)

    def leave(self, name: str) -> None:
        self._await_others(name)
        member = self._system.members.pop(name)
        member.terminate()
        self._leaving.append(member)
        self._note("SIGTERM", name)

    def kill(self, name: str) -> None:
        """Killed, and restarted under its CONSUMER_ID, as a supervisor does."""
        self._await_others(name)
        self._system[name].kill9()
        self._system.spawn(name)
        self._note("kill -9 and restart", name)

    def _await_others(self, name: str) -> None:
        others = [m for m in self._system.members.values() if m.name.startswith("orders-consume") and m.name != name]
        drive(*(member.child.until(member.ready, within=READY_WITHIN) for member in others))

    def _note(self, what: str, name: str) -> None:
        self.done[what] += 1
        self.diary.append((now(), f"{what} {name}"))

    def end(self) -> None:
        self.statuses = [member.ended() for member in self._leaving]


def test_rebalance_storm(system, topics, load, figures, limit):
    """Rebalance storm. Limit: no 3 s without a handled event."""
    joined(system, "orders-consume-1")
    storm = Storm(system)
    # Each comes and goes, two or three are there at any time, of which one may be on its way.
    one, two, three, four = "orders-consume", "orders-consume-1", "orders-consume-2", "orders-consume-3"
    turns = itertools.cycle(
        [
            lambda: storm.join(three),
            lambda: storm.leave(one),
            lambda: storm.join(four, **ANONYMOUS),
            lambda: storm.kill(two),
            lambda: storm.leave(three),
            lambda: storm.join(one),
            lambda: storm.leave(four),
        ]
    )
    began = time.monotonic()
    for number, turn in enumerate(turns):
        time.sleep(max(0.0, began + number * EVERY - time.monotonic()))
        if time.monotonic() - began > LASTS:
            break
        turn()
    users = load.end()
    storm.end()
    settle(system, topics)

    at = sorted(handled(system, list(load.sent)).values())
    last_sent = max(record.produced_at for record in topics.of("user.created"))
    busy = [moment for moment in at if moment <= last_sent]
    standstills = [(after - before, before) for before, after in pairwise(busy)]
    gaps = sorted(seconds for seconds, _ in standstills)
    figures.update(storm.done)
    figures["events"] = len(users)
    figures["longest time without a handled event"] = worst = gaps[-1]
    figures["p99 of all such times"] = gaps[int(len(gaps) * 0.99)]
    check_order_per_key(system, topics, load)
    assert set(storm.statuses) == {0}
    limit(worst, 3.0, _story(storm, standstills))


def _story(storm: Storm, standstills: list[tuple[float, float]]) -> str:
    """When nothing was handled for long, among what was done, in seconds since the first of that."""
    began = storm.diary[0][0]
    told = storm.diary + [(at, f"nothing handled for {seconds:.2f} s") for seconds, at in standstills if seconds > 1.0]
    return "\n".join(f"{at - began:7.2f} {what}" for at, what in sorted(told))

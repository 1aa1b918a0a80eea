"""Consumers of orders come and go every three seconds, for two minutes, while events come in all the time."""

import itertools
import time
from itertools import pairwise

import pytest

from tests.acceptance.books import settle
from tests.acceptance.lanes import check_lanes, handled, joined

pytestmark = pytest.mark.drill

LASTS, EVERY = 120.0, 3.0
ANONYMOUS = {"CONSUMER_ID": ""}
"""A member that the group has never seen; the others have names, under which they come back."""


class Storm:
    """What is done to the consumers, one thing at a time; nothing waits for its effect."""

    def __init__(self, system) -> None:
        self._system = system
        self.statuses: list[int] = []
        self._leaving: list = []
        self.done = {"joins": 0, "SIGTERM": 0, "kill -9 and started again": 0}

    def join(self, name: str, **changes: str) -> None:
        self._system.spawn(name, **changes)
        self.done["joins"] += 1

    def leave(self, name: str) -> None:
        member = self._system.members.pop(name)
        member.terminate()
        self._leaving.append(member)
        self.done["SIGTERM"] += 1

    def kill(self, name: str) -> None:
        """Killed, and started again under its CONSUMER_ID, as a supervisor does."""
        self._system[name].kill9()
        self._system.spawn(name)
        self.done["kill -9 and started again"] += 1

    def end(self) -> None:
        self.statuses = [member.ended() for member in self._leaving]


def test_rebalance_storm(system, topics, load, figures):
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
    last_sent = max(record.at for record in topics.of("user.created"))
    busy = [moment for moment in at if moment <= last_sent]
    gaps = sorted(after - before for before, after in pairwise(busy))
    figures.update(storm.done)
    figures["events"] = len(users)
    figures["longest time without a handled event"] = worst = gaps[-1]
    figures["p99 of all such times"] = gaps[int(len(gaps) * 0.99)]
    check_lanes(system, topics, load)
    assert set(storm.statuses) == {0}
    assert worst <= 3.0

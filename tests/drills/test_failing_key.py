"""One key fails in a real consumer: the effect on other keys, and the memory for its waiting events."""

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.acceptance.faults import Faults, faults
from tests.acceptance.keyed_load import check_order_per_key, handled
from tests.acceptance.ledger import settle, user_created, wire
from tests.acceptance.topics import Headers, SeenRecord, Topics
from tests.drills.measures import now
from tests.waiting import eventually

pytestmark = pytest.mark.drill

FAILS_FOR, HEALTHY_FOR = 30.0, 12.0
OFTEN = {"RETRY_ATTEMPTS": "100", "RETRY_CAP_SECONDS": "1"}
"""The event is tried again every second, so that it is a nuisance for all of the time, and is not dead-lettered."""

BUSY = 600.0
"""Nothing here takes a minute, but on a machine that has much else to do."""

MIB = 1024 * 1024


@pytest.fixture
def fault(system) -> Iterator[Faults]:
    """Users whose orders fail."""
    with faults(system) as fault:
        yield fault


def p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def test_other_keys_while_one_fails(system, topics, fault, load, figures, limit):
    """p99 from event to inbox of all other keys, while one key fails for 30 s and when it resumes. Limit: 1.5 times."""
    system.start("orders-consume", **OFTEN)
    bad, *others = load.sent
    time.sleep(3)

    moments = [now()]
    time.sleep(HEALTHY_FOR)
    moments.append(now())
    fault.refuse(f"{bad}-%")
    time.sleep(FAILS_FOR)
    fault.accept_all()
    eventually(lambda: not system["orders-consume"].metric("events_held"), within=60, every=0.2)
    moments.append(now())
    time.sleep(HEALTHY_FOR)
    moments.append(now())
    load.end()
    settle(system, topics)
    check_order_per_key(system, topics, load)

    at = handled(system, others)
    first, failing, last = (
        [at[r.id] - r.produced_at for r in topics.of("user.created") if r.id in at and begin <= r.produced_at < end]
        for begin, end in pairwise(moments)
    )
    failed = len(system["orders-consume"].logged("event failed, will try again"))
    figures["events of others"] = f"{len(failing)} meanwhile, {len(first + last)} before and after"
    figures["failed tries"] = failed
    figures["p99 without"] = f"{p99(first + last) * 1000:.1f} ms"
    figures["p99 meanwhile"] = f"{p99(failing) * 1000:.1f} ms"
    figures["times as long"] = f"{p99(failing) / p99(first + last):.2f}"
    assert failed > FAILS_FOR / 2
    limit(p99(failing) / p99(first + last), 1.5)


@dataclass(frozen=True)
class Flood:
    """Events behind one bad key, and what the consumer may hold of them."""

    events: int
    padding: int
    bounds: dict[str, str]
    most: int
    """So many may be held: the bound, and one fetch, in the midst of which it is reached."""
    growth: int
    """The consumer may grow by so many bytes."""


IN_NUMBER = Flood(100_000, 0, {"CONSUMER_HELD_EVENTS": "10000"}, 10_000 + 500, 160 * MIB)
IN_BYTES = Flood(10_000, 20_000, {"CONSUMER_HELD_BYTES": "8000000"}, 400 + 500, 160 * MIB)


class Bad:
    """One key with very many events, each about another user."""

    def __init__(self, topics: Topics, flood: Flood) -> None:
        self.key = uuid.uuid4().hex[:8]
        self.count = flood.events
        self._topics = topics
        padding = b'"padding": "%s", ' % (b"x" * flood.padding) if flood.padding else b""
        _, _, value, self._headers = wire(user_created(f"{self.key}-NUMBER"))
        self._value = value.replace(b"{", b"{" + padding, 1)

    def send(self) -> None:
        for number in range(self.count):
            value = self._value.replace(b"NUMBER", b"%d" % number)
            headers: Headers = [
                (name, b"%s-%d" % (self.key.encode(), number) if name == "ce_id" else said)
                for name, said in self._headers
            ]
            self._topics.send_later("user.created", self.key.encode(), value, headers)
            if number % 10_000 == 0:
                self._topics.flush()
        self._topics.flush()

    def seen(self) -> list[SeenRecord]:
        """Its events as they stand on the topic, in their order."""
        return [record for record in self._topics.of("user.created") if record.key == self.key.encode()]

    def forget(self, system) -> None:
        """None of its orders is ever sent to payments, which have nothing to do with it."""
        with system.database("orderdb") as connection:
            made = "SELECT id::text FROM orders WHERE user_id LIKE %s"
            connection.execute(f"DELETE FROM outbox WHERE key IN ({made})".encode(), [f"{self.key}-%"])


def memory(pid: int, what: str) -> int:
    """Of a process, in bytes: VmRSS is what it has now, VmHWM the most that it ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


@pytest.mark.parametrize("flood", [IN_NUMBER, IN_BYTES], ids=["in number", "in bytes"])
def test_all_wait_for_a_failing_one(system, topics, fault, load, figures, flood):
    """Memory of the consumer with many events behind a failing one. Limit: 160 MiB more, and all handled in order."""
    system.end(["orders-relay"])
    consumer, *_ = system.start("orders-consume", **OFTEN, **flood.bounds)
    bad = Bad(topics, flood)
    eventually(lambda: len(handled(system, list(load.sent))) > 300)
    before = memory(consumer.pid, "VmRSS")

    fault.refuse(f"{bad.key}-0")
    most_held = Watch(consumer)
    most_held.start()
    bad.send()
    eventually(lambda: consumer.metric("events_consumer_paused_partitions") == 1)
    eventually(lambda: len(bad.seen()) == bad.count, within=BUSY, every=0.5)
    paused, partition = now(), bad.seen()[0].partition
    time.sleep(5)
    elsewhere = {r.id for r in topics.of("user.created") if r.produced_at > paused and r.partition != partition}
    eventually(lambda: elsewhere <= set(handled(system, list(load.sent))), what="other partitions go on")

    fault.accept_all()
    mended = now()
    query = "SELECT count(*) FROM inbox WHERE key = %s"
    eventually(lambda: system.rows("orderdb", query, bad.key) == [(bad.count,)], within=BUSY, every=0.5)
    figures["events"] = bad.count
    figures["handled after"] = now() - mended
    load.end()
    peak = memory(consumer.pid, "VmHWM")
    held = most_held.end()
    bad.forget(system)
    system.start("orders-relay")
    settle(system, topics, within=BUSY)

    figures["most held"] = held
    figures["memory before and at the peak"] = f"{before / MIB:.0f} and {peak / MIB:.0f} MiB"
    figures["events of other partitions handled meanwhile"] = len(elsewhere)
    at = handled(system, [bad.key])
    times = [at[record.id] for record in bad.seen()]
    assert len(at) == len(times) == bad.count
    assert times == sorted(times)
    orders = "SELECT count(*), count(DISTINCT user_id) FROM orders WHERE user_id LIKE %s"
    assert system.rows("orderdb", orders, f"{bad.key}-%") == [(bad.count, bad.count)]
    assert elsewhere
    assert flood.most / 3 < held <= flood.most
    assert peak - before < flood.growth
    check_order_per_key(system, topics, load)


class Watch(threading.Thread):
    """Asks a consumer again and again how many events it holds."""

    def __init__(self, consumer) -> None:
        super().__init__(name="watch", daemon=True)
        self._consumer = consumer
        self._ended = threading.Event()
        self._most = 0.0

    def run(self) -> None:
        while not self._ended.wait(0.5):
            with contextlib.suppress(AssertionError):  # it was too busy to answer in time
                self._most = max(self._most, self._consumer.metric("events_held"))

    def end(self) -> int:
        """Ask no more. Returns the most that it has held."""
        self._ended.set()
        self.join(10)
        return int(self._most)

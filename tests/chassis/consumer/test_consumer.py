"""The consumer with a real broker and database: each event once, in order, and no failing event stops others."""

import os
import threading
import time
import uuid

import pytest
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import TopicPartition
from django.db import connections

from chassis.consumer.consumer import Consumer, SessionTooShort
from chassis.messaging.models import InboxEvent, OutboxEvent
from chassis.observability import metrics
from tests.chassis.support.kafka_helpers import committed
from tests.chassis.support.loops import Running, running
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


def dead(scene) -> list[OutboxEvent]:
    return list(OutboxEvent.objects.filter(topic=scene.dead_letter_topic).order_by("position"))


def test_handles_each_event_once_and_commits_its_offset(scene):
    scene.send(*(scene.event(n, key=f"k{n % 7}") for n in range(300)))
    with running(Consumer):
        eventually(lambda: len(scene.handled) >= 300)
        eventually(lambda: committed(scene) == 300)
    assert sorted(number for _, number in scene.handled) == list(range(300))
    for k in range(7):
        assert scene.numbers(f"k{k}") == [n for n in range(300) if n % 7 == k]
    assert InboxEvent.objects.count() == 300
    assert max(scene.batches) > 1, "a backlog is worked off as a set"


def test_the_same_event_fifty_times_takes_effect_once(scene):
    scene.send(*(scene.event(1, event_id="the-same") for _ in range(50)), scene.event(2))
    with running(Consumer):
        eventually(lambda: scene.numbers("k")[-1:] == [2])
    assert scene.numbers("k") == [1, 2]


def test_changes_of_a_failing_handler_are_rolled_back(scene):
    tries = []

    def react(scene, received):
        InboxEvent.objects.create(event_id=f"effect-{uuid.uuid4()}", topic="x", key="x", request_id="x")
        tries.append(len(received))
        if len(tries) == 1:
            raise ValueError("the first time")

    scene.react = react
    scene.send(scene.event(1))
    with running(Consumer):
        eventually(lambda: scene.handled)
    assert len(tries) == 2
    assert InboxEvent.objects.filter(topic="x").count() == 1


def test_an_event_that_fails_costs_no_new_connection(scene):
    """Other keys would wait for it at each retry."""
    sessions = []

    def react(scene, received):
        with connections["users"].cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            sessions.append(cursor.fetchone())
            if len(sessions) == 1:
                cursor.execute("SELECT 1 / 0")
        if len(sessions) == 2:
            raise ValueError("the second time")

    scene.react = react
    scene.send(scene.event(1))
    with running(Consumer):
        eventually(lambda: scene.handled)
    assert len(sessions) == 3
    assert len(set(sessions)) == 1


class TestPoison:
    """One poison event among valid ones."""

    def test_is_found_in_a_batch_retried_and_dead_lettered_while_others_proceed(self, scene):
        def react(scene, received):
            if any(one.event.number == 13 for one in received):
                raise ValueError("thirteen")

        scene.react = react
        scene.send(*(scene.event(n, key=f"k{n}") for n in range(40)))
        with running(Consumer):
            eventually(lambda: len(scene.handled) >= 39)
            [letter] = eventually(lambda: dead(scene))
            eventually(lambda: committed(scene) == 40)
        assert sorted(number for _, number in scene.handled) == [n for n in range(40) if n != 13]
        said = dict(letter.headers)
        assert (letter.key, bytes(letter.payload)) == ("k13", b'{"number": 13}')
        assert said["deadletter-reason"] == "handler"
        assert said["deadletter-error"] == "ValueError: thirteen"
        assert "raise ValueError" in said["deadletter-traceback"]
        assert said["deadletter-attempts"] == "3"
        assert (said["deadletter-topic"], said["deadletter-group"]) == (scene.topic, scene.group)
        assert said["requestId"] == "req-13"

    def test_later_events_of_its_key_wait_and_then_resume_in_order(self, scene, settings):
        settings.RETRY_ATTEMPTS = 1000
        failing = threading.Event()
        failing.set()

        def react(scene, received):
            if failing.is_set() and any(one.key == "bad" for one in received):
                raise ValueError("not yet")

        scene.react = react
        scene.send(*(scene.event(n, key="bad" if n % 2 else f"good{n}") for n in range(60)))
        with running(Consumer):
            eventually(lambda: len(scene.handled) == 30)
            assert scene.numbers("bad") == []
            assert committed(scene) < 60
            failing.clear()
            eventually(lambda: len(scene.handled) == 60)
            eventually(lambda: committed(scene) == 60)
        assert scene.numbers("bad") == [n for n in range(60) if n % 2]
        assert dead(scene) == []

    def test_unreadable_records_are_dead_lettered_unchanged(self, scene):
        poison = [
            (b"k1", b"\xff\xfe not json", [("ce_id", b"1"), ("x-binary", b"\x00\xff")]),
            (b"k2", b'{"number": "many"}', [("ce_id", b"2")]),
            (b"k3", b'{"number": 1}', []),
            (None, b'{"number": 1}', [("ce_id", b"4")]),
            (b"k5", None, [("ce_id", b"5")]),
            (b"\xff\x00", b'{"number": 1}', [("ce_id", b"6")]),
            (b"k7", b'{"number": 1}', [("ce_id", b"7"), ("ce_dataschema", f"urn:events:{scene.topic}:v9".encode())]),
        ]
        scene.send(scene.event(1), *poison, scene.event(2))
        with running(Consumer):
            eventually(lambda: scene.numbers("k") == [1, 2])
            letters = eventually(lambda: rows if len(rows := dead(scene)) == len(poison) else None)
            eventually(lambda: committed(scene) == 9)
        kept = {
            (
                bytes(row.raw_key) if row.raw_key else row.key.encode() if row.key else None,
                row.payload and bytes(row.payload),
            )
            for row in letters
        }
        assert kept == {(key, value) for key, value, _ in poison}
        assert {dict(row.headers)["deadletter-reason"] for row in letters} == {"unreadable"}

    def test_repeated_dead_lettering_after_a_crash_is_one_dead_letter(self, scene, settings):
        settings.RETRY_ATTEMPTS = 1
        scene.send((b"k", b"junk", [("ce_id", b"1")]))
        for _ in range(2):  # the second run starts where nothing was committed
            settings.CONSUMER_ID = ""
            with running(Consumer):
                eventually(lambda: dead(scene))
                eventually(lambda: committed(scene) == 1)
            rewind(scene)
        with running(Consumer):
            eventually(lambda: committed(scene) == 1)
        assert len(dead(scene)) == 1


def rewind(scene) -> None:
    """Set the group back to the beginning, as a crash before the commit of its offsets would have left it."""
    client = KafkaConsumer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], "group.id": scene.group})
    try:
        client.commit(offsets=[TopicPartition(scene.topic, n, 0) for n in range(2)], asynchronous=False)
    finally:
        client.close()


def test_a_replay_changes_nothing(scene):
    scene.send(*(scene.event(n) for n in range(20)))
    with running(Consumer):
        eventually(lambda: len(scene.handled) == 20)
        eventually(lambda: committed(scene) == 20)
    rewind(scene)
    with running(Consumer):
        eventually(lambda: committed(scene) == 20)
    assert len(scene.handled) == 20


class TestDependency:
    """An unavailable dependency is waited for and counts no attempts."""

    def test_an_unavailable_database_dead_letters_nothing(self, scene, settings, monkeypatch):
        settings.RETRY_ATTEMPTS = 1
        address = connections["users"].settings_dict
        monkeypatch.setitem(address, "PORT", address["PORT"])
        right = address["PORT"]
        tries = []

        def react(scene, received):
            tries.append(len(received))
            if len(tries) == 1:
                address["PORT"] = "1"  # nobody listens there
                with connections["users"].cursor() as cursor:
                    cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

        scene.react = react
        scene.send(scene.event(1), scene.event(2))
        with running(Consumer) as consumer:
            eventually(lambda: tries and not consumer.loop.dependency_up)
            waits = metrics.EVENTS_DEPENDENCY_WAITS.labels("database")._value
            before = waits.get()
            eventually(lambda: waits.get() > before + 3, what="it asks again and again")
            assert tries == [2], "and not with events"
            address["PORT"] = right
            eventually(lambda: scene.numbers("k") == [1, 2])
            eventually(lambda: consumer.loop.dependency_up)
        assert dead(scene) == []

    def test_a_reset_connection_is_reestablished(self, scene):
        cut = []

        def react(scene, received):
            if not cut:
                cut.append(True)
                with connections["users"].cursor() as cursor:
                    cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

        scene.react = react
        scene.send(*(scene.event(n) for n in range(5)))
        with running(Consumer):
            eventually(lambda: scene.numbers("k") == list(range(5)))
        assert (cut, dead(scene)) == ([True], [])


class TestBounds:
    """The events that wait behind a failing one are limited: beyond that its partition is paused, and no other."""

    def test_pauses_the_partition_and_resumes_it(self, scene, settings):
        settings.CONSUMER_HELD_EVENTS = 50
        settings.CONSUMER_BATCH_SIZE = 10
        settings.RETRY_ATTEMPTS = 1000
        settings.RETRY_CAP_SECONDS = 0.1
        failing = threading.Event()
        failing.set()

        def react(scene, received):
            if failing.is_set() and any(one.key == "bad" for one in received):
                raise ValueError("not yet")

        scene.react = react
        scene.send(*(scene.event(n, key="bad") for n in range(500)))
        with running(Consumer) as consumer:
            eventually(lambda: consumer.loop and consumer.loop._pausing.paused)
            eventually(lambda: len(consumer.loop._backlog) >= 50)
            [paused] = consumer.loop._pausing.paused
            other = next(f"other{n}" for n in range(100) if self.partition(f"other{n}") != paused[1])
            scene.send(scene.event(7, key=other))
            eventually(lambda: scene.numbers(other) == [7])
            assert len(consumer.loop._backlog) < 50 + 2 * 10
            failing.clear()
            eventually(lambda: len(scene.numbers("bad")) == 500)
        assert scene.numbers("bad") == list(range(500))

    def test_the_bound_is_the_processes_not_each_partitions(self, scene, settings):
        settings.CONSUMER_HELD_EVENTS = 100
        settings.CONSUMER_BATCH_SIZE = 10
        settings.RETRY_ATTEMPTS = 1000
        settings.RETRY_CAP_SECONDS = 0.1
        failing = threading.Event()
        failing.set()

        def react(scene, received):
            if failing.is_set() and any(one.key.startswith("bad") for one in received):
                raise ValueError("not yet")

        scene.react = react
        both = [next(f"bad{n}" for n in range(100) if self.partition(f"bad{n}") == number) for number in (0, 1)]
        scene.send(*(scene.event(n, key=key) for n in range(300) for key in both))
        most = 0
        with running(Consumer) as consumer:
            eventually(lambda: consumer.loop and consumer.loop._pausing.paused)
            for _ in range(50):
                most = max(most, len(consumer.loop._backlog))
                time.sleep(0.02)
            assert 80 <= most <= 100 + 2 * 10
            failing.clear()
            eventually(lambda: committed(scene) == 600)
        assert [scene.numbers(key) for key in both] == [list(range(300))] * 2

    def test_a_paused_partition_resumes_after_it_was_revoked_and_reassigned(self, scene, settings):
        settings.CONSUMER_HELD_EVENTS = 10
        settings.RETRY_ATTEMPTS = 1000
        settings.RETRY_CAP_SECONDS = 0.1
        failing = threading.Event()
        failing.set()

        def react(scene, received):
            if failing.is_set() and any(one.key.startswith("bad") for one in received):
                raise ValueError("not yet")

        scene.react = react
        both = [next(f"bad{n}" for n in range(100) if self.partition(f"bad{n}") == number) for number in (0, 1)]
        for key in both:
            scene.send(*(scene.event(n, key=key) for n in range(50)))
        with running(Consumer) as first:
            eventually(lambda: first.loop and len(first.loop._pausing.paused) == 2)
            with running(Consumer) as second:
                eventually(lambda: second.loop and second.loop.assigned == 1 and first.loop.assigned == 1)
            eventually(lambda: first.loop.assigned == 2)
            failing.clear()
            eventually(lambda: committed(scene) == 100, what="all is handled")
        assert [scene.numbers(key) for key in both] == [list(range(50))] * 2

    @staticmethod
    def partition(key: str) -> int:
        """Where librdkafka's default partitioner puts a key, of two."""
        import zlib

        return zlib.crc32(key.encode()) % 2


def test_two_consumers_share_and_hand_over(scene):
    scene.send(*(scene.event(n, key=f"k{n % 10}") for n in range(200)))
    with running(Consumer) as first:
        eventually(lambda: len(scene.handled) >= 200)
        with running(Consumer) as second:
            eventually(lambda: second.loop and second.loop.assigned == 1 and first.loop.assigned == 1)
            scene.send(*(scene.event(n, key=f"k{n % 10}") for n in range(200, 400)))
            eventually(lambda: len(scene.handled) >= 400)
        eventually(lambda: first.loop.assigned == 2)  # it left; nobody waited for a session to end
        scene.send(*(scene.event(n, key=f"k{n % 10}") for n in range(400, 500)))
        eventually(lambda: len(scene.handled) >= 500)
        eventually(lambda: committed(scene) == 500)
    for k in range(10):
        assert scene.numbers(f"k{k}") == [n for n in range(500) if n % 10 == k]


def test_a_static_member_also_leaves_immediately(scene, settings):
    settings.CONSUMER_SESSION_TIMEOUT_SECONDS = 300
    settings.CONSUMER_ID = "one"
    with running(Consumer) as first:
        eventually(lambda: first.loop and first.loop.assigned == 2)
        settings.CONSUMER_ID = "two"
        with running(Consumer) as second:
            eventually(lambda: second.loop and second.loop.assigned == 1)
        eventually(lambda: first.loop.assigned == 2)


def test_a_session_timeout_that_the_broker_rejects_stops_it(scene, settings):
    settings.CONSUMER_SESSION_TIMEOUT_SECONDS = 0.6  # the broker's group.min.session.timeout.ms is 1 s here
    loop = Running(Consumer)
    eventually(lambda: loop.error)
    with pytest.raises(SessionTooShort):
        loop.end()


class TestSlowStatements:
    """A statement cancelled by statement_timeout: whether other events succeed shows the cause."""

    @staticmethod
    def sleep() -> None:
        with connections["users"].cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '50ms'")
            cursor.execute("SELECT pg_sleep(5)")

    def test_an_event_that_exceeds_limits_is_poison(self, scene):
        def react(scene, received):
            if any(one.event.number == 3 for one in received):
                self.sleep()

        scene.react = react
        scene.send(*(scene.event(n, key=f"k{n}") for n in range(8)))
        with running(Consumer):
            stop = threading.Event()
            others = threading.Thread(target=self.keep_sending, args=(scene, stop))
            others.start()
            [letter] = eventually(lambda: dead(scene))
            stop.set()
            others.join()
        assert bytes(letter.payload) == b'{"number": 3}'
        assert {number for _, number in scene.handled if number < 8} == set(range(8)) - {3}

    def keep_sending(self, scene, stop) -> None:
        number = 100
        while not stop.wait(0.05):
            scene.send(scene.event(number, key=f"k{number}"))
            number += 1

    def test_a_slow_database_dead_letters_nothing(self, scene, settings):
        settings.RETRY_ATTEMPTS = 2
        slow = threading.Event()
        slow.set()
        tries = []

        def react(scene, received):
            tries.append(len(received))
            if slow.is_set():
                self.sleep()

        scene.react = react
        scene.send(*(scene.event(n, key=f"k{n}") for n in range(4)))
        with running(Consumer):
            eventually(lambda: len(tries) >= 12)  # more than all attempts of all of them
            slow.clear()
            eventually(lambda: len(scene.handled) == 4)
        assert dead(scene) == []


def test_a_handler_that_leaves_its_transaction_idle_fails(scene, settings):
    """PostgreSQL ends such a session; it is the handler's doing, so it counts as a try and ends in a dead letter."""
    settings.RETRY_ATTEMPTS = 2

    def react(scene, received):
        if any(one.event.number == 3 for one in received):
            with connections["users"].cursor() as cursor:
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
                time.sleep(1.0)
                cursor.execute("SELECT 1")

    scene.react = react
    scene.send(*(scene.event(n, key=f"k{n}") for n in range(5)))
    with running(Consumer):
        [letter] = eventually(lambda: dead(scene))
        eventually(lambda: len(scene.handled) == 4)
    assert bytes(letter.payload) == b'{"number": 3}'


def test_reports_its_lag_and_held_events(scene, settings, monkeypatch):
    from chassis.consumer import gauges
    from chassis.observability import metrics

    monkeypatch.setattr(gauges, "EVERY_SECONDS", 0.0)
    settings.RETRY_ATTEMPTS = 1000

    def react(scene, received):
        if any(one.key == "bad" for one in received):
            raise ValueError("never")

    scene.react = react
    scene.send(scene.event(0, key="bad"), *(scene.event(n, key="bad") for n in range(1, 10)))

    def value(gauge, **labels):
        return next((s.value for s in gauge.collect()[0].samples if s.labels.items() >= labels.items()), None)

    def lag(number):
        return value(metrics.CONSUMER_LAG, topic=scene.topic, partition=str(number))

    stands = TestBounds.partition("bad")
    with running(Consumer):
        eventually(lambda: value(metrics.EVENTS_HELD, topic=scene.topic) == 10)
        eventually(lambda: (lag(stands), lag(1 - stands)) == (10, 0), what="all of one is behind, none of the other")
    assert scene.handled == []


def test_reports_its_lag_before_it_has_processed_anything(scene, settings, monkeypatch):
    """What waits at the start counts from where the group stands, not from the beginning."""
    from chassis.consumer import gauges
    from chassis.observability import metrics

    monkeypatch.setattr(gauges, "EVERY_SECONDS", 0.0)
    settings.RETRY_ATTEMPTS = 1000
    scene.send(*(scene.event(n) for n in range(7)))
    with running(Consumer):
        eventually(lambda: committed(scene) == 7)
    scene.react = lambda scene, received: 1 / 0
    scene.send(*(scene.event(n) for n in range(5)))

    def lag():
        samples = metrics.CONSUMER_LAG.collect()[0].samples
        return sum(sample.value for sample in samples if sample.labels["topic"] == scene.topic)

    with running(Consumer):
        eventually(lambda: lag() == 5)
        assert committed(scene) == 7

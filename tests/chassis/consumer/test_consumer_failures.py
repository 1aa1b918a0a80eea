"""Failures in the real consumer: whatever the handler of one event raises, and however long it takes, others are processed."""

import threading
import time
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, KafkaException
from django.db import InterfaceError, OperationalError, connections

from chassis.consumer.consumer import Consumer
from chassis.health.heartbeat import Heartbeat
from chassis.kafka.errors import Fenced
from chassis.runtime.failures import DeadLetterRefused, DependencyDown
from chassis.runtime.shutdown import Stop
from tests.chassis.consumer.test_consumer import dead
from tests.chassis.support.kafka_helpers import committed
from tests.chassis.support.loops import running
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


def says(sqlstate: str) -> Callable[[], None]:
    """A statement that fails with this code, as one that waits for a lock or a trigger of somebody's own does."""

    def execute() -> None:
        with connections["users"].cursor() as cursor:
            cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$")

    return execute


def throws(error: BaseException) -> Callable[[], None]:
    def throw() -> None:
        raise error

    return throw


FAILURES = {
    **{code: says(code) for code in ("55000", "55P03", "53200", "57P01", "08006", "25006", "40001")},
    "OperationalError": throws(OperationalError("no code")),
    "InterfaceError": throws(InterfaceError("closed")),
    "KafkaException": throws(KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN))),
    "DependencyDown": throws(DependencyDown("says the handler")),
    "DeadLetterRefused": throws(DeadLetterRefused("says the handler")),
    "Fenced": throws(Fenced("says the handler")),
    "SystemExit": throws(SystemExit(1)),
    "KeyboardInterrupt": throws(KeyboardInterrupt()),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_whatever_one_event_raises_others_are_processed(scene, settings, kind):
    """Those in its batch do not wait until its last attempt. How long others wait at most is measured by `make drills`."""
    settings.RETRY_BASE_SECONDS = 0.5  # the last attempt is 1.5 s after the first
    sent = set(range(50))
    done: dict[int, float] = {}
    attempts: list[float] = []
    batch: set[int] = set()

    def react(scene, received):
        if any(one.event.number == 3 for one in received):
            batch.update({one.event.number for one in received} - {3} if not attempts else ())
            attempts.append(time.monotonic())
            FAILURES[kind]()
        done.update((one.event.number, time.monotonic()) for one in received)

    scene.react = react
    scene.send(*(scene.event(n, key=f"k{n}") for n in range(50)))
    with running(Consumer) as consumer:
        eventually(lambda: consumer.loop and consumer.loop.assigned == 2)
        for number in range(100, 400):
            if dead(scene):
                break
            scene.send(scene.event(number, key=f"k{number}"))
            sent.add(number)
            time.sleep(0.05)
        [letter] = eventually(lambda: dead(scene))
        eventually(lambda: committed(scene) == len(sent))
    assert bytes(letter.payload) == b'{"number": 3}'
    assert dict(letter.headers)["deadletter-attempts"] == "3"
    assert set(done) == sent - {3}
    assert batch
    assert max(done[number] for number in batch) < attempts[-1]


def test_three_keys_that_hang(scene, settings):
    """With a limit of 3 s. The consumer has the main thread, as in its process: only there a handler can be ended."""
    settings.HANDLER_TIMEOUT_SECONDS = 3.0
    settings.RETRY_ATTEMPTS = 1
    hanging = {2, 70, 199}
    waits = [0.0]
    """For how long the handler has hung between two batches that it has processed, in seconds."""

    def react(scene, received):
        if not hanging & {one.event.number for one in received}:
            waits.append(0.0)
            return
        began = time.monotonic()
        try:
            time.sleep(3600)
        finally:
            waits[-1] += time.monotonic() - began

    scene.react = react
    scene.send(*(scene.event(n, key=f"k{n}") for n in range(200)))
    stop, heartbeat = Stop(), Heartbeat("test")
    waited_for_others: list[float] = []

    def watch() -> None:
        number = 1000
        try:
            while len(dead(scene)) < 3 and number < 3000:
                others = {n for _, n in list(scene.handled) if n < 200}
                if len(others) == 197 and not waited_for_others:
                    waited_for_others.append(sum(waits))
                scene.send(scene.event(number, key=f"k{number}"))
                number += 1
                time.sleep(0.05)
        finally:
            stop.ask()
            connections.close_all()

    watcher = threading.Thread(target=watch)
    consumer = Consumer(stop, heartbeat)
    watcher.start()
    consumer.run()
    watcher.join(30)
    assert {bytes(letter.payload) for letter in dead(scene)} == {b'{"number": %d}' % n for n in hanging}
    assert {dict(letter.headers)["deadletter-reason"] for letter in dead(scene)} == {"timeout"}
    # A batch that is halved at full limits takes more than 8 of them for one such key alone. The drill judges the time itself.
    assert waited_for_others[0] < 7 * 3
    assert max(waits) < 2 * 3, "events of other keys never wait for two limits"

"""`python tests/chaos/sabotage.py FAULT manage.py COMMAND`: runs a command with an injected fault.

Each fault is a plausible mistake. The product itself has no switch for them.
"""

import contextlib
import os
import sys
import uuid

FAULTS = {}


def fault(function):
    FAULTS[function.__name__.replace("_", "-")] = function
    return function


@fault
def offsets_before_the_work():
    """The consumer commits offsets when it receives records, before it processes them."""
    from confluent_kafka import TopicPartition

    from chassis.consumer.consumer import Consumer

    work = Consumer._process

    def commit_then_work(self, batch):
        ends = [TopicPartition(record.topic, record.partition, record.offset + 1) for record in batch]
        self._client.commit(offsets=ends, asynchronous=False)
        work(self, batch)

    Consumer._process = commit_then_work


@fault
def inbox_off():
    """The inbox treats every event as new and stores none."""
    from django.conf import settings
    from django.db import connections

    from chassis.consumer import inbox

    def claim(events, mark):
        # psycopg's own cursor, as in the real function: Django's would be checked for the mark.
        with connections[settings.SERVICE_DATABASE].connection.cursor() as cursor:
            cursor.execute(mark)
        return {event.identity for event in events}

    inbox.claim = claim


@fault
def inbox_off_and_no_natural_key():
    """The same, without the natural key that would prevent duplicates."""
    from orders.models import WelcomeOrder

    inbox_off()
    WelcomeOrder.of = classmethod(lambda cls, user_id, created_at: cls(str(uuid.uuid4()), user_id, created_at))


@fault
def marked_before_the_ack():
    """The relay marks rows as sent when it gives them to the client, before the broker acknowledges them."""
    from chassis.outbox import rows as outbox_rows
    from chassis.outbox.relay import Relay

    send = Relay._send

    def mark_then_send(self, rows):
        with self._connection.cursor() as cursor:
            outbox_rows.mark(cursor, rows, late=False)
        send(self, rows)

    Relay._send = mark_then_send


@fault
def handlers_never_return():
    """Handlers of users with certain prefixes never return: they sleep, compute, or wait for a socket."""
    import socket
    import time

    from django.conf import settings

    def computes():
        while True:
            pass

    silent, _other_end = socket.socketpair()
    _before_events_of_users(
        {
            "orders": {"sleeps": lambda: time.sleep(3600), "computes": computes},
            "payments": {"unpayable": lambda: silent.recv(1) and _other_end},
        }[settings.SERVICE_NAME]
    )


@fault
def broken_handler():
    """A bad deployment: the use case that creates welcome orders, or pays, raises for all events."""
    services, use_case = _use_case()

    def broken(received):
        raise TypeError(f"{use_case}() got an unexpected keyword argument")

    setattr(services, use_case, broken)


@fault
def handlers_crash():
    """The handler crashes the process for users whose id begins with `crashes-`, like a bug in C code."""
    from django.conf import settings

    services, use_case = _use_case()
    original = getattr(services, use_case)

    def crashing(received):
        if any(one.event.user_id.startswith(f"crashes-{settings.SERVICE_NAME}") for one in received):
            os.abort()
        original(received)

    setattr(services, use_case, crashing)


@fault
def handlers_catch_everything():
    """The handler catches every HandlerTimeout for users whose id begins with `catches-`, and continues."""
    import time

    services, use_case = _use_case()
    original = getattr(services, use_case)

    def catching(received):
        while any(one.event.user_id.startswith("catches-") for one in received):
            with contextlib.suppress(BaseException):
                time.sleep(1)
        original(received)

    setattr(services, use_case, catching)


@fault
def handlers_take_signals():
    """The handler changes how the process handles SIGTERM for users with certain prefixes, as a library might.

    Or it leaves a thread behind, for which Python waits when the process ends.
    """
    import ctypes
    import signal
    import threading
    import time

    def catches_a_signal():
        before = signal.signal(signal.SIGTERM, lambda number, frame: None)
        os.kill(os.getpid(), signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)

    ways = {
        "default": lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        "ignored": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        "another": lambda: signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7)),
        "blocked": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]),
        "caught": catches_a_signal,
        "inc": lambda: ctypes.CDLL(None).signal(signal.SIGTERM, 0),
        "thread": lambda: threading.Thread(target=time.sleep, args=[3600], name="left-behind").start(),
    }
    _before_events_of_users(ways)


def _before_events_of_users(actions):
    """Before the use case, run the action of each event whose user id starts with the action's name and a hyphen."""
    services, use_case = _use_case()
    original = getattr(services, use_case)

    def acting(received):
        for one in received:
            if action := actions.get(one.event.user_id.partition("-")[0]):
                action()
        original(received)

    setattr(services, use_case, acting)


def _use_case():
    """The services module of the running service, and the use case of its first handler."""
    import importlib

    from django.conf import settings

    name = {"orders": "make_welcome_orders", "payments": "pay"}[settings.SERVICE_NAME]
    return importlib.import_module(f"{settings.SERVICE_NAME}.services"), name


def main():
    # As if manage.py were run: imports are relative to the repository, and argv is that of the command.
    sys.path[0] = os.getcwd()
    name, sys.argv = sys.argv[1], sys.argv[2:]

    import django

    import settings  # noqa: F401  puts platform/ on the import path

    django.setup()
    FAULTS[name]()

    import manage

    manage.main()


if __name__ == "__main__":
    main()

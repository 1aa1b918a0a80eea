"""`python tests/chaos/sabotage.py FAULT manage.py COMMAND`: the product as it is, but for one fault that is put in from outside.

Each fault is what a careless rewrite would do. None of them can be switched on in the product.
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
    """The consumer commits offsets when it has received records, not when it has worked on them."""
    from confluent_kafka import TopicPartition

    from chassis.consumer.consumer import Consumer

    work = Consumer._work

    def commit_then_work(self, batch):
        ends = [TopicPartition(record.topic, record.partition, record.offset + 1) for record in batch]
        self._client.commit(offsets=ends, asynchronous=False)
        work(self, batch)

    Consumer._work = commit_then_work


@fault
def inbox_off():
    """Every event is new, and none is remembered."""
    from chassis.consumer import inbox

    inbox.claim = lambda events: {event.identity for event in events}


@fault
def inbox_off_and_no_natural_key():
    """The same where nothing else tells that the work was done before."""
    from orders.models import Order

    inbox_off()
    Order.welcome = classmethod(
        lambda cls, user_id: cls.of(user_id, cls.WELCOME_ITEMS, id=uuid.uuid4(), is_welcome=True)
    )


@fault
def marked_before_the_ack():
    """The relay marks rows as sent when it has given them to the client, not when the broker has them."""
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
    """A handler that meets a user whose id begins so sleeps for ever (welcome), computes (welcome) or hears nothing (pay)."""
    import importlib
    import socket
    import time

    from django.conf import settings

    def computes():
        while True:
            pass

    silent, _other_end = socket.socketpair()
    use_case, hangs = {
        "orders": ("make_welcome_orders", {"sleeps": lambda: time.sleep(3600), "computes": computes}),
        "payments": ("pay", {"unpayable": lambda: silent.recv(1) and _other_end}),
    }[settings.SERVICE_NAME]
    services = importlib.import_module(f"{settings.SERVICE_NAME}.services")
    sound = getattr(services, use_case)

    def hanging(received):
        for one in received:
            if hang := hangs.get(one.event.user_id.partition("-")[0]):
                hang()
        sound(received)

    setattr(services, use_case, hanging)


@fault
def broken_handler():
    """A bad deployment: the use case that makes welcome orders, or pays, raises for everybody."""
    services, use_case = _use_case()

    def broken(received):
        raise TypeError(f"{use_case}() got an unexpected keyword argument")

    setattr(services, use_case, broken)


@fault
def handlers_crash():
    """The handler of an event of a user whose id begins with `crashes-` ends the process, as a fault in C would."""
    from django.conf import settings

    services, use_case = _use_case()
    sound = getattr(services, use_case)

    def crashing(received):
        if any(one.event.user_id.startswith(f"crashes-{settings.SERVICE_NAME}") for one in received):
            os.abort()
        sound(received)

    setattr(services, use_case, crashing)


@fault
def handlers_catch_everything():
    """The handler of an event of a user whose id begins with `catches-` catches each HandlerTimeout, and begins again."""
    import time

    services, use_case = _use_case()
    sound = getattr(services, use_case)

    def catching(received):
        while any(one.event.user_id.startswith("catches-") for one in received):
            with contextlib.suppress(BaseException):
                time.sleep(1)
        sound(received)

    setattr(services, use_case, catching)


@fault
def handlers_take_signals():
    """The handler of an event of a user whose id begins so takes SIGTERM away from the process, as a library might.

    Or it leaves a thread behind, for which Python waits at the end.
    """
    import ctypes
    import signal
    import threading
    import time

    services, use_case = _use_case()
    sound = getattr(services, use_case)
    ways = {
        "default": lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        "ignored": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        "another": lambda: signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7)),
        "blocked": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]),
        "inc": lambda: ctypes.CDLL(None).signal(signal.SIGTERM, 0),
        "thread": lambda: threading.Thread(target=time.sleep, args=[3600], name="left-behind").start(),
    }

    def taking(received):
        for one in received:
            if take := ways.get(one.event.user_id.partition("-")[0]):
                take()
        sound(received)

    setattr(services, use_case, taking)


def _use_case():
    """The services module of the running service, and the name of the use case that its consumer calls first."""
    import importlib

    from django.conf import settings

    name = {"orders": "make_welcome_orders", "payments": "pay"}[settings.SERVICE_NAME]
    return importlib.import_module(f"{settings.SERVICE_NAME}.services"), name


def main():
    # As when manage.py is run itself: the root of the repository is what is imported from, and argv is its own.
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

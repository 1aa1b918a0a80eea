"""Publishing: the event is in the outbox if and only if the change is in the database."""

import os
import uuid

import psycopg
import pytest
from django.db import DatabaseError, connections, transaction

from chassis.events import Outgoing, publish, publish_all
from chassis.messaging.models import OutboxEvent
from chassis.observability import correlation
from chassis.outbox.headers import headers_from_json, headers_to_json
from chassis.outbox.wakeup import SLEEPING
from chassis.runtime.failures import is_dependency
from users.events import UserCreated
from users.models import User

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


def event() -> UserCreated:
    return UserCreated(
        user_id=str(uuid.uuid4()), email="ada@example.org", name="Ada", created_at="2026-01-02T03:04:05Z"
    )


def test_is_written_with_the_change():
    with correlation.bind_request_id("req-1"), transaction.atomic(using="users"):
        publish(event(), key="u-1")
    row = OutboxEvent.objects.get()
    assert (row.topic, row.key, row.request_id, row.sent_at) == ("user.created", "u-1", "req-1", None)
    assert dict(row.headers)["ce_id"] == str(row.event_id)


def test_is_removed_with_the_change():
    class Changed(Exception):
        pass

    with pytest.raises(Changed), transaction.atomic(using="users"):  # noqa: PT012
        User.objects.create(email="ada@example.org", name="Ada")
        publish(event(), key="u-1")
        raise Changed
    assert (OutboxEvent.objects.count(), User.objects.count()) == (0, 0)


def test_a_lost_database_is_not_the_fault_of_the_event():
    """As Django's error: COPY is psycopg's own, whose errors nobody above knows."""
    with pytest.raises(DatabaseError) as caught, transaction.atomic(using="users"):  # noqa: PT012
        with connections["users"].cursor() as cursor, psycopg.connect(os.environ["USERS_DATABASE_URL"]) as other:
            cursor.execute("SELECT pg_backend_pid()")
            other.execute("SELECT pg_terminate_backend(%s, 5000)", cursor.fetchone())
        publish(event(), key="u-1")
    assert is_dependency(caught.value)
    assert OutboxEvent.objects.count() == 0


def test_many_events_are_one_statement_and_keep_their_order(django_assert_num_queries, settings):
    settings.OUTBOX_CHECK_KEYS = False  # as in production
    events = [Outgoing(event(), f"u-{n}") for n in range(500)]
    with transaction.atomic(using="users"), django_assert_num_queries(1, connection=connections["users"]):
        publish_all(events)
    assert list(OutboxEvent.objects.order_by("position").values_list("key", flat=True)) == [
        f"u-{n}" for n in range(500)
    ]


def test_a_commit_wakes_the_sleeping_relay():
    """Who does not say that it sleeps is not notified: see test_wakeup.py."""
    import psycopg

    own = connections["users"]
    with psycopg.connect(
        **{k: v for k, v in own.get_connection_params().items() if k in {"host", "port", "user", "password", "dbname"}},
        autocommit=True,
    ) as listener:
        listener.execute("LISTEN outbox")
        with transaction.atomic(using="users"):
            publish(event(), key="u-1")
        assert list(listener.notifies(timeout=0.05)) == []
        listener.execute("SELECT pg_advisory_lock(%s)", [SLEEPING])
        with transaction.atomic(using="users"):
            publish(event(), key="u-1")
            assert list(listener.notifies(timeout=0.05)) == [], "not before the commit"
        assert len(list(listener.notifies(timeout=10, stop_after=1))) == 1


@pytest.mark.parametrize("value", [b"text", "größe".encode(), b"", None, b"\xff\x00\xfe", b"nul\x00byte"])
def test_headers_are_restored_byte_for_byte(value):
    kept = [("a", value), ("a", b"twice")]
    assert headers_from_json(headers_to_json(kept)) == kept


class TestManyAtOnce:
    """`publish_all` consumes a generator of events while writing them."""

    def test_few_of_them_are_in_memory_and_the_database_is_usable_meanwhile(self, settings):
        settings.OUTBOX_BATCH_BYTES = 1_000
        begun, written = [], []

        def events():
            for n in range(300):
                written.append(OutboxEvent.objects.count())
                begun.append(n)
                yield Outgoing(event(), f"u-{n}")

        with transaction.atomic(using="users"):
            publish_all(events())
        assert OutboxEvent.objects.count() == 300
        assert max(begun_so_far - there for begun_so_far, there in zip(begun, written, strict=True)) < 20
        assert list(OutboxEvent.objects.order_by("position").values_list("key", flat=True)) == [f"u-{n}" for n in begun]

    def test_a_failed_statement_fails_the_transaction_even_if_the_error_is_caught(self, settings):
        settings.OUTBOX_BATCH_BYTES = 1_000

        def events():
            for n in range(100):
                yield Outgoing(event(), f"u-{n}")
            raise ValueError("the last one")

        with transaction.atomic(using="users"):
            with pytest.raises(ValueError, match="the last one"):
                publish_all(events())
            assert transaction.get_rollback(using="users")
        assert OutboxEvent.objects.count() == 0

"""Order per key requires a locked aggregate: in development and tests, missing locks are reported."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chassis.events import Outgoing, publish, publish_all
from chassis.messaging.models import OutboxEvent
from chassis.outbox import key_check
from chassis.outbox.key_check import UnlockedAggregate
from orders.events import OrderCreated
from tests.chassis.outbox.test_publisher import event
from users import services
from users.models import User

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


class Other:
    """A second writer, with a connection of its own: it publishes, and leaves its transaction open until told."""

    def __init__(self, *keys: str, make=event) -> None:
        self._make, self._keys = make, keys
        self._published, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            with transaction.atomic(using="users"):
                publish_all([Outgoing(self._make(), key) for key in self._keys])
                self._published.set()
                self._end.wait(30)
        finally:
            connections["users"].close()

    def __enter__(self):
        self._thread.start()
        assert self._published.wait(30)
        return self

    def __exit__(self, *error) -> None:
        self.commit()

    def commit(self) -> None:
        self._end.set()
        self._thread.join(30)


def test_concurrent_transactions_that_publish_under_one_key_are_reported():
    told = pytest.raises(UnlockedAggregate, match=r"user\.created u-1: Another open transaction")
    with Other("u-1"), told, transaction.atomic(using="users"):
        publish_all([Outgoing(event(), "u-0"), Outgoing(event(), "u-1")])
    assert list(OutboxEvent.objects.values_list("key", flat=True)) == ["u-1"]


def test_other_keys_and_topics_are_unaffected():
    def order() -> OrderCreated:
        return OrderCreated(
            order_id=uuid.uuid4(), user_id="u", items=[], total_amount=0, created_at="2026-01-02T03:04:05Z"
        )

    with Other("u-1", make=order), transaction.atomic(using="users"):
        publish(event(), key="u-1")
        publish(event(), key="u-2")
        publish(event(), key="u-2")
    assert OutboxEvent.objects.count() == 4


def test_sequential_transactions_are_allowed():
    with Other("u-1") as other:
        other.commit()
        with transaction.atomic(using="users"):
            publish(event(), key="u-1")
    assert OutboxEvent.objects.count() == 2


def test_rolled_back_rows_hold_no_key():
    class Changed(Exception):
        pass

    def fail() -> None:
        with transaction.atomic(using="users"):
            publish(event(), key="u-1")
            raise Changed

    with transaction.atomic(using="users"):
        with pytest.raises(Changed):
            fail()  # a savepoint
        with Other("u-1"):
            pass
    assert OutboxEvent.objects.count() == 1


def test_off_as_in_production_it_queries_nothing(settings, django_assert_num_queries):
    settings.OUTBOX_CHECK_KEYS = False
    with Other("u-1"), transaction.atomic(using="users"), django_assert_num_queries(0, connection=connections["users"]):
        publish(event(), key="u-1")  # its INSERT is sent with the COMMIT


WRITERS, ROUNDS = 6, 25


def test_with_locked_aggregates_nothing_is_reported_and_commit_order_holds():
    """Many writers of one aggregate: each counts it up under its lock, and publishes what it made of it."""
    user = services.create_user(email="ada@example.org", name="0")
    OutboxEvent.objects.all().delete()

    def write(_: int) -> None:
        try:
            for _ in range(ROUNDS):
                with transaction.atomic(using="users"):
                    mine = User.objects.select_for_update().get(pk=user.pk)
                    mine.name = str(int(mine.name) + 1)
                    mine.save(update_fields=["name"])
                    made = event().model_copy(update={"name": mine.name})
                    publish(made, key=str(user.pk))
        finally:
            connections["users"].close()

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    payloads = OutboxEvent.objects.order_by("position").values_list("payload", flat=True)
    said = [int(type(event()).model_validate_json(bytes(payload)).name) for payload in payloads]
    assert said == list(range(1, WRITERS * ROUNDS + 1))


def test_the_use_cases_lock_what_they_publish_about():
    """A user is published again by many at once, each time as one event."""
    user = services.create_user(email="ada@example.org", name="Ada")
    OutboxEvent.objects.all().delete()

    def again(_: int) -> bool:
        try:
            return services.republish_created(user_id=user.id)
        finally:
            connections["users"].close()

    with ThreadPoolExecutor(WRITERS) as pool:
        assert sorted(pool.map(again, range(WRITERS))) == [False] * (WRITERS - 1) + [True]
    assert OutboxEvent.objects.count() == 1


def test_a_large_set_does_not_fill_the_lock_table():
    with transaction.atomic(using="users"):
        publish_all(Outgoing(event(), f"u-{n}") for n in range(3 * key_check.MOST_KEYS))
        with connections["users"].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
            (held,) = cursor.fetchone()
    assert key_check.MOST_KEYS <= held <= key_check.MOST_KEYS + 1, "those of the keys, and the one of the trigger"


@hypothesis_settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_ports_fit_and_do_not_overlap(topic, key, other_topic, other_key):
    number, other = key_check._number(topic, key), key_check._number(other_topic, other_key)
    assert -(2**63) <= number < 2**63
    if "\0" not in topic + other_topic:  # no topic's name has one
        assert (number == other) == ((topic, key) == (other_topic, other_key))

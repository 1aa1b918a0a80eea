"""What is to be called after the commit is called once if the transaction commits, and never otherwise."""

import pytest
from django.db import transaction

from chassis.consumer.consumer import Consumer
from chassis.events import NotInTransaction, after_commit
from tests.chassis.support.kafka_helpers import committed
from tests.chassis.support.loops import running
from tests.waiting import eventually


@pytest.mark.django_db(databases=["users"], transaction=True)
class TestDatabase:
    def test_after_the_outermost_commit(self):
        called = []
        with transaction.atomic(using="users"):
            with transaction.atomic(using="users"):
                after_commit(lambda: called.append(1))
            assert called == []
        assert called == [1]

    def test_never_after_a_rollback(self):
        called = []
        with transaction.atomic(using="users"):
            after_commit(lambda: called.append(1))
            transaction.set_rollback(True, using="users")
        assert called == []

    def test_its_error_is_only_logged(self):
        called = []
        with transaction.atomic(using="users"):
            after_commit(lambda: 1 / 0)
            after_commit(lambda: called.append(1))
        assert called == [1]

    def test_outside_a_transaction_it_is_an_error(self):
        with pytest.raises(NotInTransaction):
            after_commit(lambda: None)


def counts(scene) -> list[int]:
    """A handler that counts its events after the commit; the batch with number 3 fails, after that event was counted."""
    counted: list[int] = []

    def react(scene, received):
        numbers = [one.event.number for one in received]
        after_commit(lambda: 1 / 0)
        after_commit(lambda: counted.extend(numbers))
        if 3 in numbers:
            raise ValueError("three")

    scene.react = react
    return counted


@pytest.mark.django_db(databases=["users"], transaction=True)
def test_in_a_batch_that_the_database_rolls_back(scene):
    counted = counts(scene)
    scene.send(*(scene.event(n, key=f"k{n}") for n in range(10)))
    with running(Consumer):
        eventually(lambda: committed(scene) == 10)
    assert sorted(counted) == [n for n in range(10) if n != 3]


@pytest.mark.service("payments")
def test_in_a_batch_of_a_service_without_a_database(scene):
    counted = counts(scene)
    scene.send(*(scene.event(n, key=f"k{n}") for n in range(10)))
    with running(Consumer):
        eventually(lambda: committed(scene) == 10)
    assert sorted(counted) == [n for n in range(10) if n != 3]
    with pytest.raises(NotInTransaction):
        after_commit(lambda: None)

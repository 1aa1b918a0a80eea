"""Handlers that end, leave or replace the transaction of their batch: the batch has no effect, and later ones succeed."""

import contextlib
import itertools
import uuid
from typing import ClassVar

import pytest
from django.db import DataError, connections, transaction

from chassis.consumer.database_transaction import DatabaseTransaction
from chassis.events.event import Event
from chassis.events.registry import Handler
from chassis.kafka.records import Record
from chassis.messaging.models import InboxEvent
from chassis.runtime.failures import HandlerFailed, RolledBack, TransactionEnded

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


class Noted(Event):
    """Something to be noted."""

    topic: ClassVar[str] = "noted"
    number: int


def sql(*statements):
    def run():
        with connections["users"].cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    run.__name__ = "; ".join(statements)
    return run


def raw_commit():
    connections["users"].connection.commit()


def raw_rollback():
    connections["users"].connection.rollback()


def closes_the_connection():
    connections["users"].close()


def closes_it_below_django():
    connections["users"].connection.close()


def connects_anew():
    connections["users"].close()
    connections["users"].connect()


def forgets_the_connection():
    connections["users"].connection = None


def replaces_the_wrapper():
    del connections["users"]


def keeps_the_old_connection(kept=[]):  # noqa: B006  it shall outlive the handler
    kept.append(connections["users"].connection)
    connections["users"].connection = None


def leaves_the_block():
    connections["users"].atomic_blocks[-1].__exit__(None, None, None)


def enters_a_block_and_stays():
    transaction.atomic(using="users").__enter__()


def enters_a_block_without_savepoint_and_stays():
    transaction.atomic(using="users", savepoint=False).__enter__()


def enters_a_block_of_psycopg_and_stays(kept=[]):  # noqa: B006  it shall outlive the handler
    kept.append(block := connections["users"].connection.transaction())
    block.__enter__()


def commits_behind_django():
    connections["users"].in_atomic_block = False
    connections["users"].commit()


def sets_autocommit_behind_django():
    connections["users"].connection.rollback()
    connections["users"].in_atomic_block = False
    connections["users"].set_autocommit(True)


def rolls_back_and_works_on():
    sql("ROLLBACK")()
    effect("of nobody's transaction")


def closes_and_works_on():
    connections["users"].close()
    connections["users"].connect()
    effect("of nobody's transaction")


MISDEEDS = [
    sql("COMMIT"),
    sql("END"),
    sql("/* a word first */ commit work"),
    sql("SELECT 1; COMMIT"),
    sql("COMMIT; BEGIN"),
    sql("COMMIT", "BEGIN"),
    sql("COMMIT AND CHAIN"),
    sql("ROLLBACK"),
    sql("ABORT"),
    sql("ROLLBACK; BEGIN"),
    sql("ROLLBACK AND CHAIN"),
    sql("PREPARE TRANSACTION 'mine'"),
    raw_commit,
    raw_rollback,
    closes_the_connection,
    closes_it_below_django,
    connects_anew,
    forgets_the_connection,
    keeps_the_old_connection,
    leaves_the_block,
    enters_a_block_and_stays,
    enters_a_block_without_savepoint_and_stays,
    enters_a_block_of_psycopg_and_stays,
    commits_behind_django,
    sets_autocommit_behind_django,
    rolls_back_and_works_on,
    closes_and_works_on,
]


def effect(key: str) -> None:
    """A row in the service's database, as its own state would be."""
    InboxEvent.objects.create(event_id=f"{key} {uuid.uuid4()}", source="test", topic="effect", key=key, request_id="r")


def effects() -> list[str]:
    return sorted(InboxEvent.objects.filter(topic="effect").values_list("key", flat=True))


def marked() -> set[str]:
    """The ids of the events that count as handled."""
    return set(InboxEvent.objects.filter(topic="noted").values_list("event_id", flat=True))


def batch(*numbers: int) -> list[Record]:
    return [
        Record("noted", 0, n, f"k{n}".encode(), b'{"number": %d}' % n, [("ce_id", b"%d" % n)], 0, size=10)
        for n in numbers
    ]


def work(handler, *numbers: int) -> list[int]:
    """Handle these events in one transaction, as the consumer's loop does; the numbers that it says were handled."""
    unit = DatabaseTransaction(None, {"noted": Handler(Noted, handler)})
    try:
        outcome = unit.process(batch(*numbers), {})
    except Exception as error:
        unit.reset(error.error if isinstance(error, HandlerFailed) else error)
        raise
    return [received.event.number for _, received in outcome.handled]


def notes(received) -> None:
    for one in received:
        effect(str(one.event.number))


def misbehaving(misdeed, guilty, *, at_first, catches):
    """A handler that notes each event, and at one of them does something wrong, before or after its work."""
    guard = contextlib.suppress(Exception) if catches else contextlib.nullcontext()

    def handler(received):
        for one in received:
            steps = [lambda one=one: effect(str(one.event.number))]
            if one.event.number == guilty:
                steps.insert(0 if at_first else 1, misdeed)
            for step in steps:
                with guard:
                    step()

    return handler


@pytest.mark.parametrize("misdeed", MISDEEDS, ids=lambda misdeed: misdeed.__name__)
def test_a_failed_batch_has_no_effect_and_its_other_events_are_processed_once(misdeed):
    for guilty, catches in itertools.product((1, 3, 5), (True, False)):
        at_first = (guilty == 3) != catches
        case = (
            f"at {guilty}, {'before' if at_first else 'after'} its work, {'catches errors' if catches else 'does not'}"
        )
        handler = misbehaving(misdeed, guilty, at_first=at_first, catches=catches)
        with pytest.raises(HandlerFailed) as failed:
            work(handler, 1, 2, 3, 4, 5)
        if catches:
            assert isinstance(failed.value.error, TransactionEnded | RolledBack), case
        assert (effects(), marked()) == ([], set()), case

        others = [n for n in range(1, 6) if n != guilty]
        assert work(handler, *others) == others, case
        with pytest.raises(HandlerFailed):
            work(handler, guilty)
        assert marked() == {str(n) for n in others}, case
        assert work(notes, *range(1, 6)) == [guilty], f"with a handler that was repaired: {case}"
        assert effects() == ["1", "2", "3", "4", "5"], case
        InboxEvent.objects.all().delete()


def test_what_handlers_may_do():
    """Savepoints of its own, in Django's way, psycopg's and PostgreSQL's; and what Django refuses it."""
    connection = connections["users"]

    def handler(received):
        with contextlib.suppress(ValueError), transaction.atomic(using="users"):
            effect("not kept")
            raise ValueError
        with connection.connection.transaction():
            effect("kept by psycopg")
        sql("SAVEPOINT mine")()
        effect("not kept")
        sql("ROLLBACK TO mine", "RELEASE mine")()
        for refused in (lambda: transaction.set_autocommit(True, using="users"), lambda: transaction.commit("users")):
            with pytest.raises(transaction.TransactionManagementError):
                refused()
        notes(received)

    assert work(handler, 1, 2) == [1, 2]
    assert effects() == ["1", "2", "kept by psycopg"]


@pytest.mark.parametrize("misdeed", [replaces_the_wrapper, sql("ROLLBACK; BEGIN", "SELECT 1", "COMMIT; BEGIN")])
def test_a_handler_with_its_own_transactions_fails(misdeed):
    def handler(received):
        misdeed()
        effect("of its own")

    with pytest.raises(HandlerFailed, match="TransactionEnded"):
        work(handler, 1)
    assert marked() == set()
    assert work(notes, 1, 2) == [1, 2]


def test_the_error_states_what_to_do():
    with pytest.raises(HandlerFailed, match="a handler tried to commit the transaction of its events"):
        work(lambda received: sql("COMMIT")(), 1)
    with pytest.raises(HandlerFailed, match="TransactionEnded: The handler ended the transaction of its events"):
        work(lambda received: sql("ROLLBACK")(), 1)


@pytest.fixture
def deferred_error():
    """A constraint trigger of the service's own, which fails at the commit with the error that a missing mark causes."""
    sql(
        "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1 / 0; RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON inbox DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " WHEN (new.topic = 'effect') EXECUTE FUNCTION fails()",
    )()
    yield
    sql("DROP FUNCTION fails() CASCADE")()


def test_an_error_of_the_commit_is_not_mistaken_for_a_missing_mark(deferred_error):
    with pytest.raises(DataError, match="division by zero"):
        work(notes, 1)
    assert (effects(), marked()) == ([], set())
    assert work(lambda received: None, 1) == [1]


def test_functions_for_after_the_commit_are_called_after_it():
    seen = []

    def handler(received):
        notes(received)
        transaction.on_commit(lambda: seen.append((effects(), connections["users"].in_atomic_block)), using="users")

    assert work(handler, 1) == [1]
    assert seen == [(["1"], False)]


def test_others_can_write_the_inbox_meanwhile():
    """Consumers of the version before mark nothing."""
    with transaction.atomic(using="users"):
        effect("1")
    assert effects() == ["1"]

"""How many round trips to PostgreSQL a batch takes."""

import pytest

from chassis.consumer.database_transaction import DatabaseTransaction
from chassis.events.registry import Handler
from tests.chassis.consumer.test_one_transaction import Noted, batch, marked, sql
from tests.chassis.support.round_trips import check, round_trips

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


@pytest.mark.parametrize("size", [1, 500])
def test_a_batch_takes_three_round_trips_and_those_of_its_handlers(size):
    """The begin; the mark and the inbox; the removal of the mark, the commit and the reset of the session."""
    unit = DatabaseTransaction(None, {"noted": Handler(Noted, lambda received: sql("SELECT 4711")())})
    sent = round_trips(lambda: unit.process(batch(*range(size)), {}))
    check(sent, ("BEGIN",), ("INSERT INTO inbox",), ("SELECT 4711",), ("COMMIT",))
    assert len(marked()) == size

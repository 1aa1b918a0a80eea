"""The checker can fail: for each fault that is put in on purpose it says what that fault broke, and for none it says nothing."""

import asyncio

import pytest

from chaos.accounting import DOUBLED, LOST, verdict
from tests.chaos import drills

pytestmark = pytest.mark.acceptance


def wrong(checks, kind):
    return {check.what: len(check.wrong) for check in checks if check.kind == kind and check.wrong}


def test_a_sound_system_goes_through_all_drills_unharmed():
    checks = asyncio.run(
        drills.run(
            drills.events_taken_while_the_database_hangs,
            drills.rows_taken_while_the_broker_is_away,
            drills.every_event_comes_twice,
        )
    )

    assert [str(check) for check in checks if check.wrong] == []
    assert {check.what for check in checks if not check.looked_at} <= NOTHING_TO_LOOK_AT


def test_offsets_committed_before_the_work_are_found():
    checks = asyncio.run(drills.run(drills.events_taken_while_the_database_hangs, fault="offsets-before-the-work"))

    assert wrong(checks, LOST)["users without welcome order"] >= 1


def test_an_inbox_that_is_switched_off_is_found():
    checks = asyncio.run(drills.run(drills.every_event_comes_twice, fault="inbox-off"))

    assert wrong(checks, DOUBLED) == {"handled events that the inbox does not know": 2 * drills.USERS}


def test_what_an_inbox_that_is_switched_off_does_where_no_natural_key_helps_is_found():
    twice = "DROP INDEX orders_one_welcome_per_user"
    checks = asyncio.run(drills.run(drills.every_event_comes_twice, fault="inbox-off-and-no-natural-key", before=twice))

    assert wrong(checks, DOUBLED)["users with two welcome orders"] == drills.USERS


def test_rows_marked_before_the_acknowledgement_are_found():
    checks = asyncio.run(drills.run(drills.rows_taken_while_the_broker_is_away, fault="marked-before-the-ack"))

    found = wrong(checks, LOST)
    assert found["users' outbox rows marked as sent that are on no topic"] >= 1
    assert found["users without user.created"] >= 1
    assert verdict(checks)[LOST] >= 3


NOTHING_TO_LOOK_AT = {
    "orders answered 201 that are not there",
    "orders made twice by one POST",
    "sequences out of order on the topic",
    "sequences handled out of order",
    "welcome orders not caused by the first event",
    "records that their group has not committed",
    "records behind an open Kafka transaction",
    "database sessions in an old transaction",
    "good events in a dead-letter topic",
    "poison in no dead-letter topic",
    "poison whose dead letter is altered or gives no reason",
    "poison with two different dead letters",
}
"""Checks of what the drills do not do."""

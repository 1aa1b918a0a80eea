"""The checks can fail: for each injected fault they report its effect, and without a fault they report nothing."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from chaos.accounting import DUPLICATED, LOST
from tests.chaos import drills

pytestmark = pytest.mark.acceptance


class Theatre:
    """One system for all drills of this file; each looks at what is wrong that was not before."""

    def __init__(self, runner: asyncio.Runner, stage: drills.Stage) -> None:
        self.stage = stage
        self._runner = runner

    def wrong_after(self, *todo: drills.Drill, fault: str = "", process: str = "") -> dict[tuple[str, str], int]:
        found = self._runner.run(self.stage.run(*todo, fault=fault, process=process))
        wrong = {what: len(things) for what, things in found.items()}
        print(f"\n{fault or 'no fault'}:", *(f"{kind}: {what}: {n}" for (kind, what), n in wrong.items()), sep="\n  ")
        return wrong


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    with asyncio.Runner() as runner:
        context = drills.stage()
        stage = runner.run(context.__aenter__())
        try:
            yield Theatre(runner, stage)
        finally:
            runner.run(context.__aexit__(None, None, None))


def test_a_correct_system_passes_all_drills(theatre):
    wrong = theatre.wrong_after(
        drills.events_taken_while_the_database_hangs,
        drills.rows_taken_while_the_broker_is_away,
        drills.every_event_comes_twice,
    )

    assert wrong == {}


def test_offsets_committed_before_processing_are_found(theatre):
    wrong = theatre.wrong_after(
        drills.events_taken_while_the_database_hangs, fault="offsets-before-the-work", process="orders-consume-0"
    )

    assert wrong[LOST, "users without welcome order"] >= 1


def test_rows_marked_before_the_acknowledgement_are_found(theatre):
    wrong = theatre.wrong_after(
        drills.rows_taken_while_the_broker_is_away, fault="marked-before-the-ack", process="users-relay-0"
    )

    lost = wrong[LOST, "outbox rows of users marked as sent that are on no topic"]
    assert lost >= 1
    assert wrong[LOST, "users without user.created"] == wrong[LOST, "users without welcome order"] == lost


def test_an_inbox_that_is_switched_off_is_found(theatre):
    wrong = theatre.wrong_after(drills.every_event_comes_twice, fault="inbox-off", process="orders-consume-0")

    assert wrong.keys() == {(DUPLICATED, "processed events that are not in the inbox")}
    assert wrong[DUPLICATED, "processed events that are not in the inbox"] >= 2 * drills.USERS


def test_duplicates_without_inbox_and_natural_key_are_found(theatre):
    with psycopg.connect(theatre.stage.system.engines.address("orders"), autocommit=True) as connection:
        connection.execute("DROP INDEX orders_one_welcome_per_user")

    wrong = theatre.wrong_after(
        drills.every_event_comes_twice, fault="inbox-off-and-no-natural-key", process="orders-consume-0"
    )

    assert wrong[DUPLICATED, "users with two welcome orders"] >= drills.USERS

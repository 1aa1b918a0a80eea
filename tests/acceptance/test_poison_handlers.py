"""Handlers that never return, in real workers: each attempt is interrupted by the time limit, and the event is dead-lettered."""

import uuid

import pytest

from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
from tests.acceptance.test_poison import died_at
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

LIMITS = {"HANDLER_TIMEOUT_SECONDS": "1", "RETRY_ATTEMPTS": "3", "RETRY_BASE_SECONDS": "0.5", "RETRY_FACTOR": "1"}


def test_handlers_that_never_return_block_only_their_own_keys(system, topics):
    """In a system call, in a loop of Python, and, where there is no database, on a socket that stays silent."""
    pids = {
        member.name: member.pid
        for name in ("orders-consume", "payments-consume")
        for member in system.start(name, fault="handlers-never-return", **LIMITS)
    }
    hanging = [f"{how}-{uuid.uuid4()}" for how in ("sleeps", "computes")]
    placed = [topics.send(*wire(user_created(user_id))) for user_id in hanging]
    unpayable, users = f"unpayable-{uuid.uuid4()}", new_ids(20)
    for user_id in (unpayable, *users):
        topics.send_later(*wire(user_created(user_id)))
    settle(system, topics)

    check(system, topics, users)
    for partition, offset in placed:
        why = died_at(topics, "user.created.orders.dlq", partition, offset)
        assert (why["reason"], why["attempts"]) == ("timeout", "3")
    [order] = topics.of("order.created", userId=unpayable)
    why = died_at(topics, "order.created.payments.dlq", order.partition, order.offset)
    assert (why["reason"], why["attempts"]) == ("timeout", "3")
    assert system.rows("orderdb", "SELECT status FROM orders WHERE user_id = %s", unpayable) == [("pending",)]
    for name, pid in pids.items():
        assert system[name].alive
        assert system[name].pid == pid
        eventually(system[name].ready)

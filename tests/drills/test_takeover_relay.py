"""A relay is killed -9 under load: how long publishing stops until it or the standby resumes."""

import pytest

from tests.acceptance.ledger import check, settle
from tests.acceptance.test_relays import only_active
from tests.drills.measures import first_record, now, up_at
from tests.waiting import eventually

pytestmark = pytest.mark.drill


def account(system, topics, visitors) -> None:
    """Nobody was refused, and each user has one order; what was sent and not yet marked is sent again, as the same event."""
    visitors.end()
    settle(system, topics)
    assert {status for status, _ in visitors.answers} == {201}
    check(system, topics, [user_id for _, user_id in visitors.answers], relayed_once=False)


def test_relay_restarted(system, topics, visitors, figures, limit):
    """Relay killed -9 and restarted, with no other. Limit: 1 s once it is up."""
    eventually(lambda: len(visitors.answers) >= 20)
    system["users-relay"].kill9()
    killed = now()
    up = up_at(system.spawn("users-relay"))
    figures["its start took"] = up - killed
    figures["it sends after"] = waited = first_record(topics, "user.created", up)
    account(system, topics, visitors)
    limit(waited, 1.0)


def test_relay_never_comes_back(system, topics, visitors, figures, limit):
    """Relay killed -9 and never restarted, with another one standing by. Limit: 6 s from the kill."""
    relays = [system["users-relay"], *system.start("users-relay-1")]
    eventually(lambda: len(visitors.answers) >= 20)
    eventually(lambda: only_active(*relays)).kill9()
    killed = now()
    figures["the other sends after"] = waited = first_record(topics, "user.created", killed)
    account(system, topics, visitors)
    limit(waited, 6.0)

"""Duplicate events and identical concurrent requests take effect once."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

TIMES = 50


def posted(system, path: str, **request):
    """The response to a POST. Repeated as `Retry-After` says while the service is too busy: it has not begun with the request."""

    def response():
        answer = system.client.post(path, **request)
        return None if answer.status_code == 503 and "Retry-After" in answer.headers else answer

    return eventually(response, every=1)


def test_one_event_delivered_fifty_times_creates_one_order(system, topics):
    [user_id] = new_ids(1)
    event = user_created(user_id)

    for _ in range(TIMES):
        topics.send_later(*wire(event))
    topics.flush()
    settle(system, topics)

    assert len(topics.by_id("user.created", event.event_id)) == TIMES
    assert system.rows("orderdb", "SELECT count(*) FROM inbox WHERE event_id = %s", event.event_id) == [(1,)]
    consumer = system["orders-consume"]
    assert len(consumer.logged("event handled", event_id=event.event_id)) == 1
    assert len(consumer.logged("duplicate event skipped", event_id=event.event_id)) == TIMES - 1
    check(system, topics, [user_id])


def test_fifty_events_about_one_user_create_one_order(system, topics):
    """As after an inbox that was purged too early: the ids are new, the user is not."""
    [user_id] = new_ids(1)

    for _ in range(TIMES):
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    settle(system, topics)

    assert system.rows("orderdb", "SELECT count(*) FROM inbox WHERE key = %s", user_id) == [(TIMES,)]
    check(system, topics, [user_id])


def test_identical_concurrent_posts_create_one_user(system, topics):
    key, together = str(uuid.uuid4()), threading.Barrier(16)
    body = {"email": f"{key}@example.org", "name": "Ada"}

    def post(_: int):
        together.wait()
        return posted(system, "/api/users", json=body, headers={"Idempotency-Key": key})

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(post, range(16)))
    settle(system, topics)

    assert {answer.status_code for answer in answers} == {201}
    [user] = {answer.content for answer in answers}
    user_id = answers[0].json()["id"]
    assert len(topics.of("user.created", email=body["email"])) == 1
    assert system.client.get(f"/api/users/{user_id}").content == user
    check(system, topics, [user_id])


def test_identical_posts_create_one_order(system, topics):
    key, together = str(uuid.uuid4()), threading.Barrier(16)
    body = {"userId": key, "items": [{"productId": "tea-pot", "quantity": 3, "price": 19.99}]}

    def post(_: int):
        together.wait()
        return posted(system, "/api/orders", json=body, headers={"Idempotency-Key": key})

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(post, range(16)))
    settle(system, topics)

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].json()["totalAmount"] == 59.97
    check(system, topics, [key])

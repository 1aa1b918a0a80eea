"""Publishing by one import in each kind of service: the declaration determines where events are written."""

from collections.abc import Callable
from typing import NamedTuple

import orjson
import pytest
from django.db import transaction

from chassis.consumer.consumer import Consumer
from chassis.events import Event, NotInTransaction, Outgoing, publish, publish_all
from chassis.messaging.models import OutboxEvent
from chassis.observability import correlation
from tests.chassis.support.kafka_helpers import headers, new_topic, read
from tests.chassis.support.loops import running

pytestmark = [
    pytest.mark.django_db(databases=["users"], transaction=True),
    pytest.mark.parametrize(
        "run",
        [
            pytest.param("use case", marks=pytest.mark.service("users"), id="with a database"),
            pytest.param("handler", marks=pytest.mark.service("payments"), id="without"),
        ],
        indirect=True,
    ),
]


class Noted(Event):
    """What these tests publish."""

    number: int


class Written(NamedTuple):
    """An event as the service wrote it."""

    key: str
    number: int
    event_id: str
    request_id: str


Run = Callable[[Callable[[], None], int], list[Written]]
"""Runs a function in a transaction of the service's kind, and reads the events that it wrote, so many."""


@pytest.fixture
def run(request) -> Run:
    Noted.topic = new_topic("noted", partitions=1)
    return in_a_use_case if request.param == "use case" else in_a_handler(request.getfixturevalue("scene"))


def in_a_use_case(body: Callable[[], None], number: int) -> list[Written]:
    with transaction.atomic(using="users"):
        body()
    rows = list(OutboxEvent.objects.order_by("position"))
    assert len(rows) == number
    return [
        Written(row.key, orjson.loads(bytes(row.payload))["number"], str(row.event_id), row.request_id) for row in rows
    ]


def in_a_handler(scene) -> Run:
    def written(body: Callable[[], None], number: int) -> list[Written]:
        scene.react = lambda scene, received: body()
        scene.send(scene.event(1))
        with running(Consumer):
            messages = read(Noted.topic, number)
        assert len(messages) == number
        return [
            Written(
                message.key().decode(),
                orjson.loads(message.value())["number"],
                headers(message)["ce_id"],
                headers(message)["requestId"],
            )
            for message in messages
        ]

    return written


ID = "0b0e5bcb-4a0e-4a6c-8d8e-5d1f7a1f0c11"


def test_one_event_and_many_become_part_of_the_transaction_in_their_order(run):
    def body() -> None:
        with correlation.bind_request_id("req-7"):
            publish(Noted(number=1), key="a", event_id=ID)
            publish_all(Outgoing(Noted(number=number), key=f"k{number}") for number in range(2, 6))

    written = run(body, 5)
    assert [(one.key, one.number) for one in written] == [("a", 1), *((f"k{n}", n) for n in range(2, 6))]
    assert written[0].event_id == ID
    assert len({one.event_id for one in written}) == 5
    assert {one.request_id for one in written} == {"req-7"}


def test_outside_of_a_transaction_it_is_an_error_before_and_after_one(run):
    def refused() -> None:
        with pytest.raises(NotInTransaction, match=Noted.topic):
            publish(Noted(number=0), key="a")
        with pytest.raises(NotInTransaction):
            publish_all([])

    refused()
    assert [one.number for one in run(lambda: publish(Noted(number=1), key="a"), 1)] == [1]
    refused()

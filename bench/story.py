"""Measures the story, from POST /api/users to the order paid or failed, one user after another on an idle system."""

import http.client
import itertools
import json
import secrets
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
from confluent_kafka import Consumer, TopicPartition

from bench.bare import Bare
from bench.live import Live
from embedded.topics import EVENTS

WITHIN = 15.0
SETTLED = "SELECT id, status FROM orders WHERE user_id = %s AND status <> 'pending'"
USERS_OUTBOX = "SELECT extract(epoch FROM created_at) FROM outbox WHERE key = %s"
ORDERS_INBOX = "SELECT topic, extract(epoch FROM consumed_at) FROM inbox WHERE key = ANY(%s)"

STEPS = {
    "the POST through the gateway, to its response": ("sent", "responded"),
    "users: outbox row, commit, the relay woken, row read": ("user outbox", "user.created"),
    "hop: user.created, from the relay of users to orders": ("user.created", "orders inbox"),
    "orders: order, outbox row, commit, the relay woken, row read": ("orders inbox", "order.created"),
    "hop: order.created to payments; payment made and handed to Kafka": ("order.created", "payment.completed"),
    "hop: payment.completed, with the end of its Kafka transaction": ("payment.completed", "payment inbox"),
    "orders: order closed, commit, seen": ("payment inbox", "settled"),
}
"""The first and the last moment of each step."""


@dataclass(frozen=True)
class Round:
    """The durations of the stories, of the bare steps between them, and the median duration of each step, in seconds."""

    stories: list[float]
    bare: list[float]
    steps: dict[str, float]


@dataclass(frozen=True)
class _Story:
    user: str
    order: str
    moments: dict[str, float]


def play(live: Live, bare: Bare, users: int) -> Round:
    """Play the story for this number of users, each followed by the bare steps. Raises TimeoutError."""
    stories: list[_Story] = []
    bare_seconds: list[float] = []
    ends = _ends(live)
    with (
        psycopg.connect(live.engines.postgres.url("orderdb"), autocommit=True) as orders,
        psycopg.connect(live.engines.postgres.url("userdb"), autocommit=True) as userdb,
    ):
        gateway = http.client.HTTPConnection(urlsplit(live.addresses["GATEWAY_URL"]).netloc, timeout=WITHIN)
        for _ in range(users):
            stories.append(_one(gateway, orders))
            bare_seconds.append(bare.story())
        gateway.close()
        _add_rows(stories, userdb, orders)
    _add_records(stories, live, ends)
    steps = {
        step: statistics.median(one.moments[end] - one.moments[start] for one in stories)
        for step, (start, end) in STEPS.items()
    }
    return Round([one.moments["settled"] - one.moments["sent"] for one in stories], bare_seconds, steps)


def _one(gateway: http.client.HTTPConnection, orders: psycopg.Connection) -> _Story:
    body = json.dumps({"email": f"{secrets.token_hex(8)}@example.org", "name": "Ada Lovelace"})
    moments = {"sent": time.time()}
    gateway.request("POST", "/api/users", body, {"Content-Type": "application/json"})
    response = gateway.getresponse()
    content = response.read()
    moments["responded"] = time.time()
    if response.status != 201:
        raise RuntimeError(f"POST /api/users returned {response.status}: {content[:500]!r}")
    user = json.loads(content)["id"]
    while (row := orders.execute(SETTLED, [user]).fetchone()) is None:
        if time.time() - moments["sent"] > WITHIN:
            raise TimeoutError(f"the order of user {user} was not settled within {WITHIN:g} s")
        time.sleep(0.0005)
    moments["settled"] = time.time()
    return _Story(user, str(row[0]), moments)


def _add_rows(stories: list[_Story], users: psycopg.Connection, orders: psycopg.Connection) -> None:
    """Add the moments at which each row was written."""
    for one in stories:
        one.moments["user outbox"] = _moment(users, USERS_OUTBOX, one.user)
        inbox = dict(orders.execute(ORDERS_INBOX, [[one.user, one.order]]).fetchall())
        one.moments["orders inbox"] = float(inbox["user.created"])
        one.moments["payment inbox"] = float(inbox["payment.completed"])


def _moment(database: psycopg.Connection, query: str, key: str) -> float:
    row = database.execute(query, [key]).fetchone()
    assert row is not None
    return float(row[0])


def _add_records(stories: list[_Story], live: Live, ends: list[TopicPartition]) -> None:
    """Add the moments at which each record was given to the Kafka client, from its timestamp."""
    by_key = {key: one for one in stories for key in (one.user, one.order)}
    missing = len(stories) * len(EVENTS)
    # Other records may be those of requests before, whose events arrive late.
    own = (record for record in _records(live, ends) if record[1] in by_key)
    for topic, key, produced in itertools.islice(own, missing):
        by_key[key].moments[topic] = produced


def _records(live: Live, start: list[TopicPartition]) -> Iterator[tuple[str, str, float]]:
    consumer = _reader(live)
    consumer.assign(start)
    deadline = time.monotonic() + WITHIN
    try:
        while time.monotonic() < deadline:
            for message in consumer.consume(500, 0.1):
                if message.error() is None:
                    yield message.topic(), message.key().decode(), message.timestamp()[1] / 1000
    finally:
        consumer.close()
    raise TimeoutError("not all records of the stories are on their topics")


def _ends(live: Live) -> list[TopicPartition]:
    consumer = _reader(live)
    try:
        topics = consumer.list_topics(timeout=10).topics
        partitions = [TopicPartition(topic, number) for topic in EVENTS for number in topics[topic].partitions]
        return [TopicPartition(p.topic, p.partition, consumer.get_watermark_offsets(p, 10)[1]) for p in partitions]
    finally:
        consumer.close()


def _reader(live: Live) -> Consumer:
    servers = live.engines.kafka.bootstrap_servers
    return Consumer({"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False, "log_level": 0})

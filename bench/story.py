"""POST /api/users through the gateway, to the order paid or failed, one user after another on an idle system."""

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
    "the POST through the gateway, to its answer": ("asked", "answered"),
    "users: outbox row, commit, the relay woken, row read": ("user outbox", "user.created"),
    "hop: user.created, from the relay of users to orders": ("user.created", "orders inbox"),
    "orders: order, outbox row, commit, the relay woken, row read": ("orders inbox", "order.created"),
    "hop: order.created to payments; payment made and handed to Kafka": ("order.created", "payment.completed"),
    "hop: payment.completed, with the end of its Kafka transaction": ("payment.completed", "payment inbox"),
    "orders: order closed, commit, seen": ("payment inbox", "settled"),
}
"""From where to where, in the moments of one story."""


@dataclass(frozen=True)
class Round:
    """Seconds of each story and of the bare steps that were taken in between; and of each step, the median."""

    stories: list[float]
    bare: list[float]
    steps: dict[str, float]


@dataclass(frozen=True)
class _Told:
    user: str
    order: str
    moments: dict[str, float]


def play(live: Live, bare: Bare, users: int) -> Round:
    """Play the story of that many users, each followed by the bare steps. Raises TimeoutError."""
    told: list[_Told] = []
    bare_seconds: list[float] = []
    ends = _ends(live)
    with (
        psycopg.connect(live.engines.postgres.url("orderdb"), autocommit=True) as orders,
        psycopg.connect(live.engines.postgres.url("userdb"), autocommit=True) as userdb,
    ):
        gateway = http.client.HTTPConnection(urlsplit(live.addresses["GATEWAY_URL"]).netloc, timeout=WITHIN)
        for _ in range(users):
            told.append(_one(gateway, orders))
            bare_seconds.append(bare.story())
        gateway.close()
        _add_rows(told, userdb, orders)
    _add_records(told, live, ends)
    steps = {
        step: statistics.median(one.moments[end] - one.moments[start] for one in told)
        for step, (start, end) in STEPS.items()
    }
    return Round([one.moments["settled"] - one.moments["asked"] for one in told], bare_seconds, steps)


def _one(gateway: http.client.HTTPConnection, orders: psycopg.Connection) -> _Told:
    body = json.dumps({"email": f"{secrets.token_hex(8)}@example.org", "name": "Ada Lovelace"})
    moments = {"asked": time.time()}
    gateway.request("POST", "/api/users", body, {"Content-Type": "application/json"})
    answer = gateway.getresponse()
    content = answer.read()
    moments["answered"] = time.time()
    if answer.status != 201:
        raise RuntimeError(f"POST /api/users was answered with {answer.status}: {content[:500]!r}")
    user = json.loads(content)["id"]
    while (row := orders.execute(SETTLED, [user]).fetchone()) is None:
        if time.time() - moments["asked"] > WITHIN:
            raise TimeoutError(f"the order of user {user} was not settled within {WITHIN:g} s")
        time.sleep(0.0005)
    moments["settled"] = time.time()
    return _Told(user, str(row[0]), moments)


def _add_rows(told: list[_Told], users: psycopg.Connection, orders: psycopg.Connection) -> None:
    """When each row was written, which the tables know."""
    for one in told:
        one.moments["user outbox"] = _moment(users, USERS_OUTBOX, one.user)
        inbox = dict(orders.execute(ORDERS_INBOX, [[one.user, one.order]]).fetchall())
        one.moments["orders inbox"] = float(inbox["user.created"])
        one.moments["payment inbox"] = float(inbox["payment.completed"])


def _moment(database: psycopg.Connection, question: str, key: str) -> float:
    row = database.execute(question, [key]).fetchone()
    assert row is not None
    return float(row[0])


def _add_records(told: list[_Told], live: Live, ends: list[TopicPartition]) -> None:
    """When each record was handed to Kafka's client, which its timestamp says."""
    by_key = {key: one for one in told for key in (one.user, one.order)}
    missing = len(told) * len(EVENTS)
    for topic, key, produced in itertools.islice(_records(live, ends), missing):
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

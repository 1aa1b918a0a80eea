"""Records that Kafka accepts and this system never writes: a huge key, no timestamp, thousands of headers."""

import uuid

import pytest

from embedded.raw_kafka import RawRecord, send_raw
from tests.acceptance.ledger import check, settle, user_created, wire
from tests.acceptance.test_poison import died_at

pytestmark = pytest.mark.acceptance

HUGE = b"k" * 900_000
MANY = [(f"h-{number}".encode(), b"v") for number in range(5_000)]


def odd(record: RawRecord) -> dict[str, RawRecord]:
    """The record, by what is odd about it."""
    key, value, headers = record.key, record.value, record.headers
    return {
        "huge key": RawRecord(HUGE + (key or b""), value, headers),
        "no timestamp": RawRecord(key, value, headers, timestamp_ms=-1),
        "thousands of headers": RawRecord(key, value, [*MANY, *headers]),
        "all at once": RawRecord(HUGE + (key or b""), value, [*MANY, *headers], timestamp_ms=-1),
    }


def test_they_are_processed_or_dead_lettered_and_redriven_like_others(system, topics):
    servers = system.engines.kafka.bootstrap_servers
    users, poison = [], {"user.created": [], "order.created": []}
    for name in odd(RawRecord()):
        users.append(f"{name.replace(' ', '-')}-{uuid.uuid4()}")
        topic, key, value, headers = wire(user_created(users[-1]))
        raw = RawRecord(key, value, [(known.encode(), content) for known, content in headers])
        send_raw(topic, odd(raw)[name], servers=servers)
        for topic, offsets in poison.items():
            bad = RawRecord(str(uuid.uuid4()).encode(), b"\xff", [(b"ce_id", b"1")])
            offsets.extend(send_raw(topic, odd(bad)[name], servers=servers))
    settle(system, topics)

    check(system, topics, users)
    for topic, group in (("user.created", "orders"), ("order.created", "payments")):
        found = [died_at(topics, f"{topic}.{group}.dlq", 0, offset) for offset in poison[topic]]
        assert {(why["reason"], why["attempts"]) for why in found} == {("unreadable", "1")}
        assert [why["timestamp"] == "-1" for why in found] == [False, True, False, True]
        status, out = system.manage(group, "deadletters", "show", found[-1]["id"])
        assert (status, "h-4999: v" in out) == (0, True)
        status, out = system.manage(group, "deadletters", "redrive", *(f"--id={why['id']}" for why in found))
        assert (status, "4 dead letters redriven" in out) == (0, True)
    settle(system, topics)
    assert system.manage("orders", "reconcile", "--older-than", "0s")[0] in {0, 1}
    for name in ("orders-consume", "payments-consume"):
        assert system[name].ready()
        delays = system[name].metric("events_delay_seconds_sum"), system[name].metric("events_delay_seconds_count")
        assert delays[0] <= 600 * delays[1], "a record without a timestamp is not fifty years late"
        # Nothing that is written of a record, in a log or a span, is as long as the record. A batch has a link for each event.
        written = system[name].child.log.read_text().splitlines()
        assert max(len(line) for line in written if '"name": "process batch"' not in line) < 50_000

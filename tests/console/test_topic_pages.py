"""The pages of topics, records and groups of a running console, without services: odd records, and odd requests."""

import json
import os
import re

import pytest
from confluent_kafka import Producer

from tests.chassis.support import kafka_helpers as kafka
from tests.console.running import running


@pytest.fixture(scope="module")
def odd(prefix) -> str:
    """A topic with records that are hard to show."""
    topic = kafka.new_topic(
        f"{prefix}odd",
        partitions=2,
        **{"max.message.bytes": "12000000", "message.timestamp.after.max.ms": str(2**63 - 1)},
    )
    producer = Producer({**kafka.servers(), "message.max.bytes": 12_000_000})
    for key, value, headers in (
        (b"\xff\x00key", b"\xff\xfe junk", [("x", b"\xff\xfe"), ("name", b"Ada"), ("nul", b"a\0b")]),
        (None, b"", []),
        (b"tombstone", None, []),
        (b"surrogate", b'{"email": "ada@example.org", "u": "\\ud800 \xe2\x80\xae"}', []),
        (b"deep", b"[" * 100_000 + b"]" * 100_000, []),
        (b"<b>", b"<script>alert(1)</script>", [("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")]),
        (b"huge", os.urandom(9_000_000), [("big", b"y" * 300_000)]),
        (b"k" * 100_000, json.dumps([{"i": i} for i in range(200_000)]).encode(), []),
    ):
        producer.produce(topic, value, key, partition=0, headers=headers)
    producer.produce(topic, b"far", b"time", partition=1, timestamp=2**62)
    assert producer.flush(60) == 0
    return topic


QUERIES = (
    "", "?key=0xff006b6579", "?text=SCRIPT", "?text=%EF%BF%BD", "?header=name%3DAda", "?header=x", "?header=%3D", "?order=oldest",
    "?partition=0&offset=3", "?partition=1&offset=9223372036854775807", "?since=2026-11-30T07:00", "?until=1960-01-01T00:00",
    "?since=9999-12-31T23:59", "?at=0:1,1:1", "?at=0:99999999999999999999999,7:1", "?unknown=1", "?since=0001-01-01T00:00:01",
)  # fmt: skip
REJECTED = (
    "?offset=3", "?partition=-1", "?partition=99999999999999999999", "?offset=x", "?at=x", "?at=1:2:3", "?since=yesterday",
    "?order=random", "?text=%00", "?key=" + "k" * 1_001,
)  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_a_search(console, odd, query):
    for headers in ({}, {"HX_Request": "true", "HX_Target": "records"}, {"HX_Request": "true"}):
        answer = console.get(f"/topics/{odd}{query}", **headers)
        assert answer.status == 200, answer.text
        assert "Looked at" in answer.text
        assert "<script>alert" not in answer.text
        assert "ada@example.org" not in answer.text


@pytest.mark.parametrize("query", REJECTED)
def test_filters_that_mean_nothing_are_named(console, odd, query):
    answer = console.get(f"/topics/{odd}{query}")
    assert answer.status == 400
    assert "These filters cannot be used" in answer.text


def test_each_record_with_and_without_personal_data(console, odd):
    for offset in range(8):
        page = console.get(f"/topics/{odd}/0/{offset}")
        assert page.status == 200
        assert "ada@example.org" not in page.text
        assert len(page.body) < 600_000
        revealed = console.ask(f"/topics/{odd}/0/{offset}/reveal", "POST", **console.authorization)
        assert revealed.status == 200
        assert len(revealed.body) < 1_000_000
        assert "<script>alert" not in revealed.text
        assert console.get(f"/topics/{odd}/0/{offset}/effects").status == 200
    assert console.get(f"/topics/{odd}/1/0").status == 200
    revealed = console.ask(f"/topics/{odd}/0/3/reveal", "POST", **console.authorization)
    assert "ada@example.org" in revealed.text


def test_each_record_leads_to_all_records_with_its_key(console, prefix):
    topic = kafka.new_topic(f"{prefix}keys", **{"max.message.bytes": "2000000"})
    producer = Producer({**kafka.servers(), "message.max.bytes": 2_000_000, "enable.idempotence": True})
    long = b"k" * 500_000
    keys = ["\u202ekey\x00".encode(), b"\xff\x00", b"0xff", b"\\x00", b"\x00", b"", long, long + b"2", "é &?#".encode()]
    for key in (*keys, *keys):
        producer.produce(topic, b"{}", key, partition=0)
    assert producer.flush(60) == 0
    for offset in range(len(keys)):
        page = console.get(f"/topics/{topic}/0/{offset}").text
        [query] = re.findall(r'href="[^"?]*(\?key=[^"]*)">all records with its key', page)
        found = console.get(f"/topics/{topic}{query}").text
        assert re.findall(r"Record 0/(\d+)", found) == [str(offset + len(keys)), str(offset)]
    # What a page shows of a key is found as well.
    found = console.get(f"/topics/{topic}?key=%5Cu202ekey%5Cx00").text
    assert re.findall(r"Record 0/(\d+)", found) == [str(len(keys)), "0"]


def test_a_payload_byte_for_byte(console, odd):
    answer = console.ask(f"/topics/{odd}/0/0/value", "POST", **console.authorization)
    assert answer.body == b"\xff\xfe junk"
    assert answer.headers["Content-Disposition"].startswith("attachment")


def test_personal_data_is_not_shown_by_a_link(console, odd):
    assert console.get(f"/topics/{odd}/0/3/reveal").status == 405
    assert console.get(f"/topics/{odd}/0/3/value").status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/topics/nope", "/topics/nope?text=x", "/topics/nope?at=x", "/topics/nope/0/0", "/topics/%00", "/topics/..%2f", "/groups/nope",
        "/topics/{odd}/7/0", "/topics/{odd}/0/999", "/topics/{odd}/0/99999999999999999999999", "/topics/{odd}/99999999999999999999/0",
        "/topics/{odd}/0/-1", "/topics/{odd}/0/999/effects", "/dead-letters/nope/x", "/dead-letters/runs/x", "/dead-letters/nope/groups/x",
    ],
)  # fmt: skip
def test_what_is_unknown_is_a_page_that_says_so(console, odd, path):
    answer = console.get(path.format(odd=odd))
    assert answer.status == 404
    assert "Not found" in answer.text
    assert "/topics" in answer.text


def test_lists_without_services(console, odd):
    assert odd in console.get("/topics").text
    assert console.get("/topics", HX_Request="true").status == 200
    assert console.get("/groups").status == 200
    page = console.get("/dead-letters", HX_Request="true")
    assert page.status == 200
    assert "The dead letters of orders are not shown" in page.text
    assert console.get("/dead-letters?state=nonsense", HX_Request="true").status == 400


@pytest.mark.parametrize(
    "path",
    [
        "/", "/stories", "/stories?state=failed", "/topics", "/topics/{odd}?text=x", "/topics/{odd}/0/0", "/groups", "/dead-letters",
        "/dead-letters?state=all", "/catalogue", "/catalogue/services/orders", "/break", "/topics/nope", "/no-such-page",
    ],
)  # fmt: skip
@pytest.mark.parametrize("target", ["", "records", "stories", "list"])
def test_a_page_to_which_the_browser_goes_back_is_whole(console, odd, path, target):
    restored = {"HX_Request": "true", "HX_History_Restore_Request": "true"}
    page = console.get(path.format(odd=odd), **restored, HX_Target=target).text
    assert page.startswith("<!doctype html>")
    assert '<nav aria-label="Pages">' in page
    assert "<h1>" in page


def test_publishing_again_is_not_offered_without_the_service(console, odd):
    answer = console.ask(f"/topics/{odd}/0/0/republish", "POST", b"operator=Ada", **console.authorization)
    assert answer.status == 409
    assert "cannot be published again" in answer.text


def test_kafka_away_is_said_on_each_page():
    with running(KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9") as console:
        for path in ("/topics", "/topics/x", "/topics/x?text=y", "/topics/x/0/0", "/groups", "/groups/x"):
            answer = console.get(path)
            assert answer.status == 503
            assert "Kafka cannot be reached" in answer.text
        assert console.get("/dead-letters").status == 200

"""Events on the wire: a sealed event can be unsealed, and an unreadable record states why."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace

from chassis.events.envelope import Outgoing, Unreadable, seal, unseal
from chassis.events.event import Event, Money
from chassis.kafka.records import Record
from chassis.observability import correlation, tracing

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
MONEY = st.decimals(min_value=0, max_value=Decimal("9999999999.99"), places=2)


class Paid(Event):
    """Something was paid."""

    topic: ClassVar[str] = "paid"

    payer_name: str
    amount: Money
    paid_at: datetime


def arrive(envelope, **changes) -> Record:
    """The envelope as a consumer finds it."""
    headers = [(name, value.encode()) for name, value in envelope.headers]
    fields = {"key": envelope.key.encode(), "value": envelope.payload, "headers": headers} | changes
    return Record(envelope.topic, 3, 7, fields["key"], fields["value"], fields["headers"], 0)


def one(**changes) -> Outgoing:
    fields = {"payer_name": "Ada", "amount": Decimal("12.10"), "paid_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)}
    return Outgoing(Paid(**(fields | changes)), key="p-1")


@given(
    name=TEXT,
    amount=MONEY,
    at=st.datetimes(timezones=st.just(UTC)),
    key=TEXT.filter(lambda key: key and "\0" not in key),
)
def test_sealed_events_can_be_unsealed(name, amount, at, key):
    event = Paid(payer_name=name, amount=amount, paid_at=at)
    with correlation.bind_request_id("req-1"):
        [envelope] = seal([Outgoing(event, key)])
    received = unseal(arrive(envelope), Paid)
    assert received.event == event
    assert (received.id, received.key, received.request_id) == (envelope.event_id, key, "req-1")
    assert received.identity == (envelope.event_id, "paid", "/users")


def test_the_payload_is_camel_case_with_utc_times_and_two_decimals():
    [envelope] = seal([one()])
    assert envelope.payload == b'{"payerName":"Ada","amount":12.10,"paidAt":"2026-01-02T03:04:05Z"}'


def test_the_headers_are_cloudevents_trace_context_and_the_originals():
    tracing.configure("test")
    with trace.get_tracer("test").start_as_current_span("request"), correlation.bind_request_id("req-1"):
        trace_id, span_id = tracing.current_ids()
        flags = trace.get_current_span().get_span_context().trace_flags
        [envelope] = seal([one()])
    headers = dict(envelope.headers)
    assert len(headers) == len(envelope.headers), "no header twice"
    assert headers["ce_time"].endswith("Z")
    assert headers.pop("ce_origintime") == headers.pop("ce_time"), "this event begins a chain"
    assert headers == {
        "ce_specversion": "1.0",
        "ce_id": envelope.event_id,
        "ce_type": "paid",
        "ce_source": "/users",
        "ce_dataschema": "urn:events:paid:v1",
        "content-type": "application/json",
        "requestId": "req-1",
        "traceId": trace_id,
        "spanId": span_id,
        "traceparent": f"00-{trace_id}-{span_id}-{flags:02x}",
    }


class TestOriginTime:
    """The time of the request that began the chain."""

    def cause(self, *origin: bytes):
        [envelope] = seal([one()])
        headers = [*without(envelope, "ce_origintime"), *(("ce_origintime", value) for value in origin)]
        return unseal(arrive(envelope, headers=headers), Paid)

    def caused_by(self, cause) -> str | None:
        [envelope] = seal([Outgoing(one().event, "p-1", cause)])
        return dict(envelope.headers).get("ce_origintime")

    def test_an_event_takes_it_over_from_its_cause(self):
        began = "2026-01-02T03:04:05.000006Z"
        cause = self.cause(began.encode())
        assert cause.origin_time == self.caused_by(cause) == began
        assert cause.within(cause.trace) == cause

    def test_the_cause_may_be_of_a_version_that_did_not_have_it(self):
        assert self.cause().origin_time == ""
        assert self.caused_by(self.cause()) is None

    @pytest.mark.parametrize(
        "value", [b"", b"yesterday", b"2026-01-02T03:04:05", b"\xff", b"2026-01-02T03:04:05Z\0", b"9" * 10_000]
    )
    def test_what_is_not_a_time_is_not_taken_over(self, value):
        assert self.cause(value).origin_time == ""


def test_a_reader_ignores_unknown_fields():
    [envelope] = seal([one()])
    payload = json.loads(envelope.payload) | {"currency": "EUR"}
    assert unseal(arrive(envelope, value=json.dumps(payload).encode()), Paid).event == one().event


def without(envelope, name):
    return [(n, v.encode()) for n, v in envelope.headers if n != name]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda e: {"value": b"\xff\xfe"}, "Invalid JSON"),
        (lambda e: {"value": b"[]"}, "payload"),
        (lambda e: {"value": b'{"payerName":"Ada","amount":-1,"paidAt":"2026-01-02T03:04:05Z"}'}, "amount"),
        (lambda e: {"value": b'{"payerName":"Ada","amount":"NaN","paidAt":"2026-01-02T03:04:05Z"}'}, "amount"),
        (lambda e: {"value": None}, "no value"),
        (lambda e: {"key": None}, "no key"),
        (lambda e: {"key": b""}, "no key"),
        (lambda e: {"key": b"\xff"}, "not UTF-8"),
        (lambda e: {"key": b"a\0b"}, "key contains a NUL"),
        (lambda e: {"headers": without(e, "ce_id")}, "no ce_id"),
        (lambda e: {"headers": [*without(e, "ce_id"), ("ce_id", b"")]}, "no ce_id"),
        (
            lambda e: {"headers": [*without(e, "ce_id"), ("ce_id", b"x" * 3_000)]},
            "ce_id has 3000 bytes; 1024 is the limit",
        ),
        (lambda e: {"headers": [*without(e, "ce_id"), ("ce_id", b"caf\xe9")]}, "ce_id is not UTF-8"),
        (lambda e: {"headers": [*without(e, "ce_id"), ("ce_id", b"a\0b")]}, "ce_id contains a NUL"),
        (lambda e: {"headers": [*without(e, "ce_source"), ("ce_source", b"/" * 1_025)]}, "ce_source has 1025 bytes"),
        (lambda e: {"headers": [*without(e, "ce_source"), ("ce_source", b"\xff")]}, "ce_source is not UTF-8"),
        (lambda e: {"headers": [*without(e, "ce_source"), ("ce_source", b"/\0")]}, "ce_source contains a NUL"),
        (lambda e: {"headers": [*without(e, "ce_dataschema"), ("ce_dataschema", b"urn:events:paid:v2")]}, "v2"),
    ],
)
def test_reports_unreadable_records_with_the_reason(change, why):
    [envelope] = seal([one()])
    with pytest.raises(Unreadable, match=why):
        unseal(arrive(envelope, **change(envelope)), Paid)


@pytest.mark.parametrize("said", [[], [("ce_source", b"")], [("ce_source", None)]])
def test_an_event_without_a_source_gets_one_that_no_producer_has(said):
    """CloudEvents demands one; producers that know nothing of CloudEvents, like the original's, may leave it out."""
    [envelope] = seal([one()])
    received = unseal(arrive(envelope, headers=[*without(envelope, "ce_source"), *said]), Paid)
    assert received.identity == (envelope.event_id, "paid", "no source")


def test_an_error_never_quotes_the_payload():
    [envelope] = seal([one()])
    with pytest.raises(Unreadable) as caught:
        unseal(arrive(envelope, value=b'{"payerName":"ada@example.org","amount":"secret-42","paidAt":1}'), Paid)
    assert "ada" not in str(caught.value)
    assert "secret" not in str(caught.value)


@given(
    junk=st.binary(max_size=200),
    key=st.none() | st.binary(max_size=20),
    headers=st.lists(st.tuples(TEXT, st.none() | st.binary(max_size=40)), max_size=5),
)
def test_any_invalid_bytes_are_unreadable(junk, key, headers):
    with pytest.raises(Unreadable):
        unseal(Record("paid", 0, 0, key, junk, headers, 0), Paid)


def test_caused_events_belong_to_the_same_request_and_trace():
    tracing.configure("test")
    with trace.get_tracer("test").start_as_current_span("request"), correlation.bind_request_id("req-9"):
        trace_id, _ = tracing.current_ids()
        [first] = seal([one()])
    received = unseal(arrive(first), Paid)
    from chassis.events.registry import Received

    cause = Received(received.event, received.id, received.key, received.request_id, received.trace)
    [second] = seal([Outgoing(one().event, "p-2", cause)])
    assert dict(second.headers)["traceId"] == trace_id
    assert second.request_id == "req-9"

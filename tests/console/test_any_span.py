"""What a process sends may be anything: attributes of any type, ids of any length. Every page of a story answers nevertheless."""

import secrets

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.console import spans

READ = (
    "db.namespace", "db.query.text", "db.system.name", "deadletter.attempts", "deadletter.id", "deadletter.reason",
    "error.type", "event.attempt", "event.duplicate", "exception.message", "exception.stacktrace", "exception.type",
    "http.request.method", "http.request.resend_count", "http.response.status_code", "http.route", "kafka.wait_seconds",
    "messaging.batch.message_count", "messaging.consumer.group.name", "messaging.destination.name",
    "messaging.destination.partition.id", "messaging.kafka.message.key", "messaging.kafka.offset", "messaging.message.id",
    "outbox.wait_seconds", "request.id", "retry.delay_seconds", "server.address", "server.port", "url.path",
)  # fmt: skip
"""The attributes that the console reads."""
PAGES = (
    "/stories/{id}", "/stories/{id}?open=all&span={span}", "/stories/{id}.json?events=1", "/stories/{id}/events",
    "/stories/{id}/repeat", "/stories/{id}/steps", "/stories/{id}/lines", "/stories/{id}/state",
    "/stories/{id}/spans/{span}", "/stories?text={id}",
)  # fmt: skip

odd_texts = st.sampled_from(
    [
        "",
        "²",
        "٣",
        "9" * 5_000,
        "9" * 4_300,
        "9" * 18,
        "-1",
        "1e308",
        "NaN",
        "True",
        "a/b",
        "..",
        "\0",
        "<b>",
        "\ud7ff",
        "x,y",
    ]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.binary(max_size=8)
    | odd_texts
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
attributes = st.dictionaries(st.sampled_from(READ), values, max_size=8)
happenings = st.builds(
    lambda name, at, more: Span.Event(name=name, time_unix_nano=at, attributes=spans.pairs(more)),
    st.sampled_from(["exception", "retry", "hold", "dead letter", "set aside", ""]),
    st.integers(0, 2**64 - 1) | st.just(spans.START),
    attributes,
)
links = st.builds(
    lambda trace_id, span_id: Span.Link(trace_id=trace_id, span_id=span_id),
    st.binary(max_size=20) | st.just(b"x" * 16),
    st.binary(max_size=9) | st.just(b"x" * 8),
)


def pages_of(console, trace: str, span: Span) -> dict[str, int]:
    """The status of each page of a story."""
    found = {page: console.get(page.format(id=trace, span=span.span_id.hex())).status for page in PAGES}
    return {page: status for page, status in found.items() if status != 200}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("messaging.message.id", ["a", "list"]),
        ("messaging.message.id", {"a": "dictionary"}),
        ("messaging.destination.partition.id", "²"),
        ("messaging.kafka.offset", "9" * 5_000),
        ("messaging.destination.name", "../a topic/"),
        ("http.request.resend_count", "9" * 4_300),
        ("http.response.status_code", 10**18),
        ("request.id", "two words, and more"),
        ("request.id", ["r-1"]),
    ],
)
@pytest.mark.parametrize("kind", ["CONSUMER", "SERVER"])
def test_an_attribute_of_another_type(console, kind, name, value):
    trace = spans.new_trace()
    usual = {
        "messaging.message.id": "e-1",
        "messaging.destination.name": "user.created",
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 0,
        **spans.http(),
    }
    one = spans.span(trace, "x", kind=kind, attributes={**usual, name: value})
    assert console.export(spans.request(one, service="gateway", role="gateway").SerializeToString()).status == 200
    assert pages_of(console, trace, one) == {}


def test_a_link_without_ids(console):
    trace = spans.new_trace()
    one = spans.span(trace, "x")
    one.links.add()
    one.links.add(trace_id=b"short", span_id=b"")
    assert console.export(spans.request(one).SerializeToString()).status == 200
    assert pages_of(console, trace, one) == {}


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_span(console, data):
    trace = secrets.token_hex(16)
    made = []
    for kind in data.draw(
        st.lists(st.sampled_from(["SERVER", "CLIENT", "PRODUCER", "CONSUMER", "INTERNAL"]), min_size=1, max_size=4)
    ):
        one = spans.span(
            trace, data.draw(st.text(max_size=20)), kind=kind, parent=made[-1].span_id.hex() if made else ""
        )
        one.attributes.extend(spans.pairs(data.draw(attributes)))
        one.events.extend(data.draw(st.lists(happenings, max_size=3)))
        one.links.extend(data.draw(st.lists(links, max_size=3)))
        made.append(one)
    message = spans.request(*made)
    message.resource_spans[0].resource.attributes.extend(
        spans.pairs(data.draw(st.dictionaries(st.sampled_from(["service.name", "process.role"]), values)))
    )
    assert console.export(message.SerializeToString()).status == 200
    assert pages_of(console, trace, made[-1]) == {}

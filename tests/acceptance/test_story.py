"""The story with the real processes: a new user gets a settled order, once, with one request id and one trace."""

import uuid

import pytest

from tests.acceptance.ledger import settle
from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

FIELDS = {
    "user.created": {"userId", "email", "name", "createdAt"},
    "order.created": {"orderId", "userId", "items", "totalAmount", "createdAt"},
    "payment.completed": {"paymentId", "orderId", "userId", "amount", "status", "completedAt"},
}
CLOUD_EVENT = {
    "ce_specversion",
    "ce_id",
    "ce_type",
    "ce_source",
    "ce_time",
    "ce_origintime",
    "ce_dataschema",
    "content-type",
}
SPEAKERS = ("gateway", "users", "orders-consume", "payments-consume")


class Told:
    """A story that has been played."""

    def __init__(self, system, topics) -> None:
        self.system = system
        self.request_id = f"story-{uuid.uuid4()}"
        answer = system.client.post(
            "/api/users",
            json={"email": f"{self.request_id}@example.org", "name": "Ada Lovelace"},
            headers={"X-Request-Id": self.request_id},
        )
        assert answer.status_code == 201, answer.text
        self.answer = answer
        self.user = answer.json()
        self.order = eventually(self._settled_order, what="the welcome order is settled")
        settle(system, topics)
        self.records = {
            "user.created": topics.of("user.created", userId=self.user["id"]),
            "order.created": topics.of("order.created", userId=self.user["id"]),
            "payment.completed": topics.of("payment.completed", userId=self.user["id"]),
        }
        self.trace_id = self.records["user.created"][0].header("traceId")

    def _settled_order(self):
        [order] = self.system.client.get("/api/orders", params={"userId": self.user["id"]}).json()["results"] or [None]
        return order if order and order["status"] != "pending" else None


@pytest.fixture(scope="module")
def told(harness, topics) -> Told:
    harness.restore()
    return Told(harness, topics)


def test_the_order_is_read_back_through_the_gateway(told):
    order = told.system.client.get(f"/api/orders/{told.order['id']}").json()

    assert order == told.order
    assert order["items"] == [{"productId": "welcome-product", "quantity": 1, "price": 0}]
    [payment] = told.records["payment.completed"]
    assert order["status"] == {"completed": "paid", "failed": "failed"}[payment.payload["status"]]
    assert told.answer.headers["X-Request-Id"] == told.request_id


def test_each_event_is_published_once_with_the_exact_payload(told):
    for topic, records in told.records.items():
        [record] = records
        assert record.payload.keys() == FIELDS[topic]
        assert record.header("ce_type") == topic
    [created], [ordered], [paid] = told.records.values()
    assert (created.key, ordered.key, paid.key) == (
        told.user["id"].encode(), told.order["id"].encode(), told.order["id"].encode(),
    )  # fmt: skip
    assert (ordered.payload["orderId"], paid.payload["orderId"]) == (told.order["id"], told.order["id"])


def test_every_event_carries_the_request_and_the_trace(told):
    for [record] in told.records.values():
        names = [name for name, _ in record.headers]
        assert CLOUD_EVENT | {"requestId", "traceId", "spanId", "traceparent"} <= set(names)
        assert len(names) == len(set(names))
        assert record.header("requestId") == told.request_id
        assert record.header("traceId") == told.trace_id
        *parent, flags = record.header("traceparent").split("-")
        assert parent == ["00", told.trace_id, record.header("spanId")]
        assert int(flags, 16) & 1, "not sampled"


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_every_process_logs_the_request_and_the_trace(told, speaker):
    lines = eventually(lambda: told.system[speaker].logged(request_id=told.request_id))

    assert {line["trace_id"] for line in lines} == {told.trace_id}
    assert all(line["span_id"] for line in lines)
    assert told.user["email"] not in str(lines)
    assert told.user["name"] not in str(lines)


def test_log_lines_about_events_name_them(told):
    lines = told.system["orders-consume"].logged("event handled", request_id=told.request_id)

    said = {tuple(line[name] for name in ("topic", "partition", "offset", "key", "event_id")) for line in lines}
    received = [*told.records["user.created"], *told.records["payment.completed"]]
    assert said == {(r.topic, r.partition, r.offset, r.key.decode(), r.id) for r in received}


def test_the_spans_are_one_trace_from_the_gateway_back_to_orders(told):
    spans = {
        span["context"]["span_id"]: span | {"process": speaker}
        for speaker in SPEAKERS
        for span in told.system[speaker].spans(told.trace_id)
    }
    last = next(span for span in spans.values() if span["name"] == "process payment.completed")

    path = [last]
    while path[-1]["parent_id"]:
        path.append(spans[path[-1]["parent_id"]])

    assert [(span["process"], span["kind"].removeprefix("SpanKind.")) for span in reversed(path)] == [
        ("gateway", "SERVER"),
        ("gateway", "CLIENT"),
        ("users", "SERVER"),
        ("orders-consume", "CONSUMER"),
        ("payments-consume", "CONSUMER"),
        ("orders-consume", "CONSUMER"),
    ]
    assert [span["name"] for span in path[:3]] == [
        "process payment.completed", "process order.created", "process user.created",
    ]  # fmt: skip


def test_each_event_continues_the_span_that_made_it(told):
    [created], [ordered], [paid] = told.records.values()
    span = {s["name"]: s["context"]["span_id"] for name in SPEAKERS for s in told.system[name].spans(told.trace_id)}

    assert span["process user.created"] == f"0x{ordered.header('spanId')}"
    assert span["process order.created"] == f"0x{paid.header('spanId')}"
    users = [s for s in told.system["users"].spans(told.trace_id) if s["kind"] == "SpanKind.SERVER"]
    assert [s["context"]["span_id"] for s in users] == [f"0x{created.header('spanId')}"]

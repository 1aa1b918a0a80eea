"""Lines about an event have the event's request id and trace id, whatever its headers contain."""

import json

import pytest

from chassis.kafka.records import Record
from chassis.outbox.headers import log_ids

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
IDS = {"request_id": "r-1", "trace_id": TRACE, "span_id": SPAN}
NONE = {"request_id": "", "trace_id": "", "span_id": ""}
GOOD = [("requestId", "r-1"), ("traceparent", f"00-{TRACE}-{SPAN}-01")]


def record(headers: list[tuple[str, bytes | None]]) -> Record:
    return Record("user.created", 1, 2, b"key", b"{}", headers, 0)


def test_a_record_has_its_own_ids():
    fields = record([(name, value.encode()) for name, value in GOOD]).log_fields()
    assert fields == {"topic": "user.created", "partition": 1, "offset": 2, "key": "key", "event_id": None, **IDS}


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("requestId", None), ("traceparent", None)],
        [("requestId", b"joe@example.org"), ("traceparent", b"nonsense")],
        [("requestId", b"a\nb"), ("traceparent", f"00-{'0' * 32}-{SPAN}-01".encode())],
        [("requestId", b"\xff" * 9), ("traceparent", b"\xff")],
        [("requestId", b"x" * 129), ("traceparent", f"00-{TRACE}-{'0' * 16}-01".encode())],
    ],
)
def test_what_is_not_an_id_is_not_logged(headers):
    assert record(headers).log_ids() == NONE


def test_a_row_has_the_ids_of_its_headers():
    assert log_ids(json.dumps(GOOD)) == log_ids([list(one) for one in GOOD]) == IDS


@pytest.mark.parametrize(
    "headers", [None, "", "null", "[]", "{", "3", "[1]", '[["requestId", 1]]', '[["a", "b", "c"]]', [1]]
)
def test_a_row_with_other_headers_has_none(headers):
    assert log_ids(headers) == NONE

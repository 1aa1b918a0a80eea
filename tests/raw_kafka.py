"""A producer that writes any record that Kafka takes, as clients in other languages can: header names of any bytes, any timestamp.

confluent-kafka takes text for a name; librdkafka below it takes bytes.
"""

import ctypes
import os
import time
from dataclasses import dataclass, field

from confluent_kafka import cimpl

# rd_kafka_vtype_t
_END, _TOPIC, _PARTITION, _VALUE, _KEY, _MSGFLAGS, _TIMESTAMP, _HEADERS = 0, 1, 3, 4, 5, 7, 8, 10
_COPY = 2

_REPORT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int), ctypes.c_void_p)
"""A delivery report; an error's number is what a message begins with."""


@dataclass
class RawRecord:
    """A record, as bytes."""

    key: bytes | None = b"k"
    value: bytes | None = b"{}"
    headers: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    timestamp_ms: int = 0
    """0 is now."""
    partition: int = 0


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(cimpl.__file__)
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


def send_raw(topic: str, *records: RawRecord, servers: str = "") -> None:
    """Produce these records, in order, and wait until the broker (by default the run's) has all of them."""
    library, why = _library(), ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    options = {"bootstrap.servers": servers or os.environ["KAFKA_BOOTSTRAP_SERVERS"], "enable.idempotence": "true",
               "message.max.bytes": "100000000", "log_level": "0"}  # fmt: skip
    for name, value in options.items():
        assert library.rd_kafka_conf_set(conf, name.encode(), value.encode(), why, 512) == 0, why.value
    failed: list[int] = []
    report = _REPORT(lambda _, message, __: failed.append(message.contents.value) if message.contents.value else None)
    library.rd_kafka_conf_set_dr_msg_cb(conf, report)
    producer = ctypes.c_void_p(library.rd_kafka_new(0, conf, why, 512))
    assert producer.value, why.value
    try:
        for record in records:
            _produce(library, producer, topic, record)
        deadline = time.monotonic() + 30
        while library.rd_kafka_outq_len(producer) and time.monotonic() < deadline:
            library.rd_kafka_flush(producer, 1000)
        assert not library.rd_kafka_outq_len(producer), "Kafka did not take all"
        assert not failed, f"Kafka refused some: {set(failed)}"
    finally:
        library.rd_kafka_destroy(producer)


def _bytes(value: bytes | None) -> tuple[ctypes.c_char_p, ctypes.c_size_t]:
    return ctypes.c_char_p(value), ctypes.c_size_t(len(value or b""))


def _produce(library: ctypes.CDLL, producer: ctypes.c_void_p, topic: str, record: RawRecord) -> None:
    headers = ctypes.c_void_p(library.rd_kafka_headers_new(8))
    for name, value in record.headers:
        library.rd_kafka_header_add(
            headers, ctypes.c_char_p(name), ctypes.c_ssize_t(len(name)),
            ctypes.c_char_p(value), ctypes.c_ssize_t(len(value or b"")),
        )  # fmt: skip
    error = library.rd_kafka_producev(
        producer,
        ctypes.c_int(_TOPIC), ctypes.c_char_p(topic.encode()),
        ctypes.c_int(_PARTITION), ctypes.c_int32(record.partition),
        ctypes.c_int(_VALUE), *_bytes(record.value),
        ctypes.c_int(_KEY), *_bytes(record.key),
        ctypes.c_int(_MSGFLAGS), ctypes.c_int(_COPY),
        ctypes.c_int(_TIMESTAMP), ctypes.c_int64(record.timestamp_ms),
        ctypes.c_int(_HEADERS), headers,
        ctypes.c_int(_END),
    )  # fmt: skip
    assert error == 0, error

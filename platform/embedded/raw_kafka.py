"""A producer of arbitrary records, as clients in other languages can write: header names of any bytes, any timestamp.

confluent-kafka accepts header names as text only. The librdkafka that it contains accepts bytes, and is called by ctypes.
"""

import ctypes
import os
import time
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import cimpl

# rd_kafka_vtype_t
_END, _TOPIC, _PARTITION, _VALUE, _KEY, _MSGFLAGS, _TIMESTAMP, _HEADERS = 0, 1, 3, 4, 5, 7, 8, 10
_COPY = 2
_PRODUCER = 0
_TEXT = 512


class _Message(ctypes.Structure):
    """The documented fields of rd_kafka_message_t."""

    _fields_ = [
        ("err", ctypes.c_int),
        ("rkt", ctypes.c_void_p),
        ("partition", ctypes.c_int32),
        ("payload", ctypes.c_void_p),
        ("len", ctypes.c_size_t),
        ("key", ctypes.c_void_p),
        ("key_len", ctypes.c_size_t),
        ("offset", ctypes.c_int64),
        ("private", ctypes.c_void_p),
    ]


_REPORT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(_Message), ctypes.c_void_p)


@dataclass
class RawRecord:
    """A record, as bytes."""

    key: bytes | None = b"k"
    value: bytes | None = b"{}"
    headers: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    timestamp_ms: int = 0
    """0 is the current time."""
    partition: int = 0


class SendFailed(Exception):
    """Kafka rejected some records, or did not acknowledge all of them in time."""


def send_raw(topic: str, *records: RawRecord, servers: str = "", within: float = 30.0) -> list[int]:
    """Produce these records in order, and return their offsets when the broker has acknowledged all of them.

    `servers` defaults to KAFKA_BOOTSTRAP_SERVERS. Raises SendFailed after `within` seconds; the records may still arrive.
    """
    library, error_text = _library(), ctypes.create_string_buffer(_TEXT)
    reports: list[tuple[int, int]] = []
    report = _REPORT(lambda _, message, __: reports.append((message.contents.err, message.contents.offset)))
    producer = ctypes.c_void_p(library.rd_kafka_new(_PRODUCER, _options(library, servers, report), error_text, _TEXT))
    if not producer.value:
        raise SendFailed(error_text.value.decode(errors="replace"))
    try:
        for record in records:
            _produce(library, producer, topic, record)
        deadline = time.monotonic() + within
        while library.rd_kafka_outq_len(producer) and time.monotonic() < deadline:
            library.rd_kafka_flush(producer, 1000)
    finally:
        library.rd_kafka_destroy(producer)
    rejected = {error for error, _ in reports if error}
    if rejected or len(reports) < len(records):
        raise SendFailed(
            f"{len(reports)} of {len(records)} records acknowledged or rejected; errors: {rejected or 'none'}"
        )
    return [offset for _, offset in reports]


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(cimpl.__file__)
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


def _options(library: ctypes.CDLL, servers: str, report: Any) -> ctypes.c_void_p:
    options = {
        "bootstrap.servers": servers or os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        "enable.idempotence": "true",
        "message.max.bytes": "100000000",
        "message.timeout.ms": "0",
        "log_level": "0",
    }
    conf, error_text = ctypes.c_void_p(library.rd_kafka_conf_new()), ctypes.create_string_buffer(_TEXT)
    for name, value in options.items():
        if library.rd_kafka_conf_set(conf, name.encode(), value.encode(), error_text, _TEXT):
            raise ValueError(error_text.value.decode(errors="replace"))
    library.rd_kafka_conf_set_dr_msg_cb(conf, report)
    return conf


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
    if error:
        raise SendFailed(f"not queued: error {error}")

"""Reading headers that confluent-kafka cannot return, because the name of a header is not UTF-8.

Kafka's protocol defines a name as text, but brokers do not check it. For such a record `Message.headers()` raises SystemError,
after it has freed the headers. They are therefore read again from the topic, with the librdkafka that confluent-kafka
contains, called through ctypes. This happens only for records that will be dead-lettered.
"""

import ctypes
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, cimpl

from chassis.kafka import clients
from chassis.kafka.records import Headers, Partition, Record
from chassis.runtime.failures import DependencyDown

PATIENCE_SECONDS = 5.0
"""How long to wait for the broker's next response."""

_CONSUMER = 1  # rd_kafka_type_t
_NO_ERROR = 0
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


def _library() -> ctypes.CDLL:
    """The librdkafka that this process has already loaded."""
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    library = ctypes.CDLL(cimpl.__file__)
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", number, [pointer, text, text, text, ctypes.c_size_t]),
        ("rd_kafka_conf_destroy", None, [pointer]),
        ("rd_kafka_new", pointer, [number, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_poll_set_consumer", number, [pointer]),
        ("rd_kafka_consumer_close", number, [pointer]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_topic_partition_list_new", pointer, [number]),
        ("rd_kafka_topic_partition_list_add", pointer, [pointer, text, ctypes.c_int32]),
        (
            "rd_kafka_topic_partition_list_set_offset",
            number,
            [pointer, text, ctypes.c_int32, ctypes.c_int64],
        ),
        ("rd_kafka_topic_partition_list_destroy", None, [pointer]),
        ("rd_kafka_topic_name", text, [pointer]),
        ("rd_kafka_assign", number, [pointer, pointer]),
        ("rd_kafka_consumer_poll", ctypes.POINTER(_Message), [pointer, number]),
        ("rd_kafka_message_destroy", None, [ctypes.POINTER(_Message)]),
        ("rd_kafka_message_headers", number, [ctypes.POINTER(_Message), ctypes.POINTER(pointer)]),
        (
            "rd_kafka_header_get_all",
            number,
            [
                pointer,
                ctypes.c_size_t,
                ctypes.POINTER(text),
                ctypes.POINTER(pointer),
                ctypes.POINTER(ctypes.c_size_t),
            ],
        ),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def complete(records: Iterable[Record]) -> None:
    r"""Read the headers of those of these records whose headers the client could not return.

    A name is stored as text with backslash escapes (the bytes `caf` and 0xE9 become `caf\xe9`), since the clients here cannot
    write it otherwise; values are kept byte for byte. A record that is no longer on its topic stays without headers.
    Raises DependencyDown if the broker does not respond for PATIENCE_SECONDS.
    """
    wanted: dict[Partition, dict[int, Record]] = {}
    for record in records:
        if not record.headers_read:
            wanted.setdefault(record.source, {})[record.offset] = record
    if wanted:
        library = _library()
        with _client(library) as client:
            _assign(library, client, {place: min(offsets) for place, offsets in wanted.items()})
            _read(library, client, wanted)


@contextmanager
def _client(library: ctypes.CDLL) -> Iterator[int]:
    """A reader with the same options as `clients.reader`."""
    reason = ctypes.create_string_buffer(_TEXT)
    options = library.rd_kafka_conf_new()
    for name, value in clients.plain_reader_options().items():
        if library.rd_kafka_conf_set(options, name.encode(), value.encode(), reason, _TEXT) != _NO_ERROR:
            library.rd_kafka_conf_destroy(options)
            raise ValueError(f"librdkafka rejects {name}")  # its reason quotes the value, which may be a password
    client = library.rd_kafka_new(_CONSUMER, options, reason, _TEXT)
    if not client:
        library.rd_kafka_conf_destroy(options)
        raise DependencyDown(f"no Kafka client: {reason.value.decode(errors='replace')}")
    try:
        library.rd_kafka_poll_set_consumer(client)
        yield client
    finally:
        library.rd_kafka_consumer_close(client)
        library.rd_kafka_destroy(client)


def _assign(library: ctypes.CDLL, client: int, starts: dict[Partition, int]) -> None:
    places = library.rd_kafka_topic_partition_list_new(len(starts))
    for (topic, partition), offset in starts.items():
        library.rd_kafka_topic_partition_list_add(places, topic.encode(), partition)
        library.rd_kafka_topic_partition_list_set_offset(places, topic.encode(), partition, offset)
    library.rd_kafka_assign(client, places)
    library.rd_kafka_topic_partition_list_destroy(places)


def _read(library: ctypes.CDLL, client: int, wanted: dict[Partition, dict[int, Record]]) -> None:
    """Read each partition up to the last wanted record."""
    heard = time.monotonic()
    while wanted:
        message = library.rd_kafka_consumer_poll(client, 100)
        if message:
            try:
                if message.contents.err in (_NO_ERROR, KafkaError._PARTITION_EOF):
                    heard = time.monotonic()
                    _take(library, message, wanted)
            finally:
                library.rd_kafka_message_destroy(message)
        if time.monotonic() - heard > PATIENCE_SECONDS:
            raise DependencyDown("the broker does not return the records whose headers must be read again")


def _take(
    library: ctypes.CDLL, message: "ctypes._Pointer[_Message]", wanted: dict[Partition, dict[int, Record]]
) -> None:
    found = message.contents
    place = (library.rd_kafka_topic_name(found.rkt).decode(), found.partition)
    records = wanted.get(place, {})
    if found.err == _NO_ERROR and (record := records.pop(found.offset, None)):
        record.give_headers(_headers(library, message))
    if found.err != _NO_ERROR or not records or found.offset >= max(records):
        wanted.pop(place, None)  # wanted records that were not returned no longer exist


def _headers(library: ctypes.CDLL, message: "ctypes._Pointer[_Message]") -> Headers:
    headers, name = ctypes.c_void_p(), ctypes.c_char_p()
    value, size = ctypes.c_void_p(), ctypes.c_size_t()
    if library.rd_kafka_message_headers(message, ctypes.byref(headers)) != _NO_ERROR:
        return []
    found: Headers = []
    while (
        library.rd_kafka_header_get_all(
            headers, len(found), ctypes.byref(name), ctypes.byref(value), ctypes.byref(size)
        )
        == _NO_ERROR
    ):
        # An empty value has an address; a null value does not.
        content = None if value.value is None else ctypes.string_at(value.value, size.value)
        found.append(((name.value or b"").decode("utf-8", "backslashreplace"), content))
    return found

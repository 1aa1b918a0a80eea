"""The spans of the last minutes, bounded in bytes. They are kept as they were received, and compressed once a story is quiet."""

import struct
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from console.stores import otlp
from console.stores.model import Span
from console.stores.origins import Origins

MOST_PER_TRACE = 2_000
"""Maximum number of spans of a trace that are kept; later ones are dropped."""
LARGEST = 65_536
"""Maximum size of a span in bytes; a larger one is dropped."""
SHARE_OF_A_TRACE = 1 / 4
"""The part of the memory that a trace may take, before it is compressed; later spans are dropped."""
QUIET_SECONDS = 5.0
"""A trace without new spans for so long is compressed."""
MOST_UNCOMPRESSED = 4_194_304
"""Beyond so many bytes, the oldest traces are compressed before: otherwise a burst of requests would drive out older stories."""

OVERHEAD = 120
"""Bytes that Python needs for a span besides its own, and for a trace."""
OF_A_TRACE = 600

_HEAD = struct.Struct("<II")


@dataclass(slots=True)
class _Trace:
    """The spans of a trace: `packed`, compressed, and those that have arrived since."""

    touched: float
    packed: bytes = b""
    recent: tuple[tuple[int, bytes], ...] = ()
    count: int = 0
    received: int = 0
    origins: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return OF_A_TRACE + len(self.packed) + self.uncompressed

    @property
    def uncompressed(self) -> int:
        """How many of them are not compressed."""
        return sum(len(raw) + OVERHEAD for _, raw in self.recent)

    def pack(self) -> None:
        """Compress the recent ones."""
        whole = _unpack(self.packed) + b"".join(_HEAD.pack(origin, len(raw)) + raw for origin, raw in self.recent)
        self.packed, self.recent = zlib.compress(whole, 6), ()

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """All spans, as they were received."""
        whole, at = _unpack(self.packed), 0
        while at < len(whole):
            origin, size = _HEAD.unpack_from(whole, at)
            at += _HEAD.size
            yield origin, whole[at : at + size]
            at += size
        yield from self.recent


def _unpack(packed: bytes) -> bytes:
    return zlib.decompress(packed) if packed else b""


class Spans:
    """Spans by trace. Safe to use from several threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._traces: OrderedDict[str, _Trace] = OrderedDict()
        self._origins = Origins()
        self._bytes = self._uncompressed_bytes = 0
        self._uncompressed: OrderedDict[str, None] = OrderedDict()
        self.dropped = 0
        """The number of spans that were dropped: to make room, or because they were too many or too large."""

    @property
    def bytes(self) -> int:
        """How many bytes they take, with their origins."""
        return self._bytes + self._origins.bytes

    def __len__(self) -> int:
        """The number of traces that have spans."""
        return len(self._traces)

    def add(self, origin: otlp.Origin, span: SpanMessage) -> bool:
        """Keep a valid span. Returns False if it is dropped, since it is too large or its trace has too many."""
        raw = span.SerializeToString()
        trace_id = span.trace_id.hex()
        with self._lock:
            known = self._traces.get(trace_id)
            if len(raw) > LARGEST or (known is not None and self._is_full(known, len(raw))):
                self.dropped += 1
                return False
            if known is None:
                known = self._traces[trace_id] = _Trace(0.0)
                self._bytes += OF_A_TRACE
            number, known.origins = self._origins.use(origin, known.origins)
            known.recent += ((number, raw),)
            known.count += 1
            known.received += len(raw)
            known.touched = time.monotonic()
            self._uncompressed[trace_id] = None
            self._uncompressed.move_to_end(trace_id)
            self._bytes += len(raw) + OVERHEAD
            self._uncompressed_bytes += len(raw) + OVERHEAD
            self._make_room()
            return True

    def of(self, trace_id: str) -> list[Span]:
        """The spans of a trace, in the order of their begin; empty if none are kept. A span that was sent twice is there once."""
        with self._lock:
            known = self._traces.get(trace_id)
            raws = [] if known is None else [(self._origins[number], raw) for number, raw in known.messages()]
        found = {}
        for origin, raw in raws:
            span = otlp.span_of(origin, SpanMessage.FromString(raw))
            found[span.span_id] = span
        return sorted(found.values(), key=lambda span: (span.begun, -span.ended))

    def compress(self) -> int:
        """Compress traces that are quiet, or too many; returns how many. Called by a background thread."""
        number = 0
        while True:
            with self._lock:
                trace_id = next(iter(self._uncompressed), None)
                if trace_id is None or not (self._is_quiet(trace_id) or self._uncompressed_bytes > MOST_UNCOMPRESSED):
                    return number
                self._compress(trace_id)
                number += 1

    def _is_quiet(self, trace_id: str) -> bool:
        return self._traces[trace_id].touched <= time.monotonic() - QUIET_SECONDS

    def _compress(self, trace_id: str) -> None:
        trace = self._traces[trace_id]
        before = trace.size
        self._uncompressed_bytes -= trace.uncompressed
        trace.pack()
        self._bytes += trace.size - before
        del self._uncompressed[trace_id]

    def forget(self, trace_ids: Iterable[str]) -> None:
        """Drop these traces."""
        with self._lock:
            for trace_id in trace_ids:
                if trace_id in self._traces:
                    self._drop(trace_id)

    def _is_full(self, trace: _Trace, more: int) -> bool:
        return trace.count >= MOST_PER_TRACE or trace.received + more > self._most_bytes * SHARE_OF_A_TRACE

    def _make_room(self) -> None:
        while self.bytes > self._most_bytes and len(self._traces) > 1:
            oldest = next(iter(self._traces))
            self.dropped += self._traces[oldest].count
            self._drop(oldest)

    def _drop(self, trace_id: str) -> None:
        dropped = self._traces.pop(trace_id)
        self._bytes -= dropped.size
        self._uncompressed_bytes -= dropped.uncompressed
        self._origins.release(dropped.origins)
        self._uncompressed.pop(trace_id, None)

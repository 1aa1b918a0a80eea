"""The exporter of spans to a collector, by OTLP over HTTP."""

import os
from collections.abc import Sequence
from urllib.request import getproxies

from opentelemetry.exporter.http.transport._base import BaseHTTPTransport
from opentelemetry.exporter.http.transport._urllib3 import Urllib3HTTPTransport
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from chassis.observability.encoding import encode

_OF_REQUESTS = ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")
"""Variables of OTLP that only the library's usual transport reads."""


class Exporter(OTLPSpanExporter):
    """The library's exporter with `encoding.encode`. It connects, compresses and repeats as that one does."""

    def __init__(self, timeout: float | None) -> None:
        """`timeout` in seconds; None for the library's default, or its variable."""
        made = transport()
        if made is None:
            super().__init__(timeout=timeout)
        else:
            super().__init__(timeout=timeout, _transport=made)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans. A failure is logged, and returned."""
        if self._shutdown:
            return SpanExportResult.FAILURE
        sent = self._client.export(encode(spans))
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE


def transport() -> BaseHTTPTransport | None:
    """The library's transport by urllib3, with a third of the memory and half of the cost of its usual one by requests.

    None, for the usual one, if there is a proxy or if a certificate is set, which only that one supports by itself.
    """
    names = [f"OTEL_EXPORTER_OTLP_{signal}{name}" for signal in ("", "TRACES_") for name in _OF_REQUESTS]
    if getproxies() or any(name in os.environ for name in names):
        return None
    return Urllib3HTTPTransport(verify=True)

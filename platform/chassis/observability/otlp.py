"""The exporter of spans to a collector, by OTLP over HTTP."""

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from chassis.observability.encoding import encode


class Exporter(OTLPSpanExporter):
    """The library's exporter with `encoding.encode`. It connects, compresses and repeats as that one does."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans. A failure is logged, and returned."""
        if self._shutdown:
            return SpanExportResult.FAILURE
        sent = self._client.export(encode(spans))
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE

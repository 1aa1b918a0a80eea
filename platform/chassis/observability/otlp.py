"""The exporter of spans to a collector, by OTLP over HTTP."""

import os
from collections.abc import Sequence
from http import HTTPStatus
from urllib.request import getproxies

import structlog
from opentelemetry.exporter.http.transport._base import BaseHTTPTransport
from opentelemetry.exporter.http.transport._urllib3 import Urllib3HTTPTransport
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from chassis.observability.encoding import encode
from chassis.observability.spans import lost

_CERTIFICATES = (
    *(
        f"OTEL_EXPORTER_OTLP_{signal}{name}"
        for signal in ("", "TRACES_")
        for name in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")
    ),
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)
_CREDENTIALS = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
    "NETRC",
)
"""Variables that only the library's default transport reads."""

log = structlog.get_logger(__name__)


class Exporter(OTLPSpanExporter):
    """The library's exporter with `encoding.encode`. It connects, compresses and repeats as that one does."""

    def __init__(self, timeout: float) -> None:
        """`timeout` in seconds."""
        made = transport()
        if made is None:
            super().__init__(timeout=timeout)
        else:
            super().__init__(timeout=timeout, _transport=made)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans. A failure is logged, and returned; spans that cannot be encoded are logged and counted."""
        if self._shutdown:
            return SpanExportResult.FAILURE
        body, failed = encode(spans)
        sent = self._client.export(body)
        if sent.success and (sent.status_code or 0) >= HTTPStatus.MULTIPLE_CHOICES:
            # The library takes this for a success, and follows no redirect.
            log.error("spans cannot be exported: the collector redirects", status=sent.status_code)
        elif sent.success:
            lost("export_failed", failed)
            return SpanExportResult.SUCCESS
        return SpanExportResult.FAILURE


def transport() -> BaseHTTPTransport | None:
    """The library's transport based on urllib3, or None for its default transport, based on requests.

    The default transport takes three times the memory and twice the CPU time. It is used if a proxy, a certificate or
    credentials are configured, since only it reads them from the environment.
    """
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    names = (*_CREDENTIALS, *(_CERTIFICATES if endpoint.startswith("https:") else ()))
    if getproxies() or "@" in endpoint or any(os.environ.get(name) for name in names):
        return None
    return Urllib3HTTPTransport(verify=True)

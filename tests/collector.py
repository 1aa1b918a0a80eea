"""A receiver of OTLP over HTTP: `python -m tests.collector PORT FILE` writes each span that it receives to FILE, as a JSON line."""

import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.json_lines import JsonLines

ROOT = Path(__file__).resolve().parent.parent


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    file: Path
    lock = Lock()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/traces", self.path
        lines = "".join(json.dumps(span) + "\n" for span in decoded(body))
        with self.lock, self.file.open("a") as file:
            file.write(lines)
        self._answer()

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


def decoded(body: bytes) -> Iterator[dict[str, Any]]:
    """The spans of a request."""
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        described = attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield span_fields(span) | {"resource": described, "scope": scope.scope.name}


def span_fields(span: Span) -> dict[str, Any]:
    return {
        "name": span.name,
        "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": attributes(span.attributes),
        "events": [{"name": one.name, **attributes(one.attributes)} for one in span.events],
        "links": [[one.trace_id.hex(), one.span_id.hex()] for one in span.links],
        "status": Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        "description": span.status.message,
        "state": span.trace_state,
    }


def attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: value(pair) for pair in pairs}


def value(pair: KeyValue) -> Any:
    return plain(pair.value)


def plain(one: AnyValue) -> Any:
    kind = one.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in one.array_value.values]
    return getattr(one, kind) if kind else None


class Collector:
    """A running receiver."""

    def __init__(self, url: str, file: Path) -> None:
        self.url = url
        self._file = file
        self._lines = JsonLines(file)

    def spans(self, trace: str | None = None) -> list[dict[str, Any]]:
        """The spans that have arrived, optionally only those of a trace."""
        return [span for span in self._lines.read() if trace in (None, span["trace"])]

    def text(self) -> str:
        """Everything that has arrived."""
        return self._file.read_text() if self._file.exists() else ""


@contextmanager
def running(folder: Path) -> Iterator[Collector]:
    """A receiver in a process of its own."""
    from embedded import ports
    from embedded.processes import Child, drive

    port, file = ports.free(1)[0], folder / "spans.jsonl"
    argv = [sys.executable, "-m", "tests.collector", str(port), str(file)]
    child = Child(argv, log=folder / "collector.log", name="collector", cwd=ROOT, env=dict(os.environ))
    url = f"http://127.0.0.1:{port}"
    try:
        drive(child.until(lambda: _answers(url), within=30))
        yield Collector(url, file)
    finally:
        child.stop()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def main() -> None:
    Handler.file = Path(sys.argv[2])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()

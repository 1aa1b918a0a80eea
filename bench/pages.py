"""The console's pages and memory with 10,000 stories: copies of a real one, each with ids of its own."""

import contextlib
import secrets
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from bench import processes
from bench.live import Live
from bench.table import Row, each
from embedded.console import Console
from embedded.processes import Child

STORIES = 10_000
AT_ONCE = 50
"""Stories in one request."""
MEMORY_MIB, PAGE_MS, VISIBLE_SECONDS = 120, 200, 1.0
TIMES = 10
WITHIN = 120.0


def measure(live: Live, console: Console, child: Child) -> list[Row]:
    """Memory, pages, and how soon a story is visible, of a running system with its console, which is `child`."""
    headers = {"Authorization": f"Bearer {console.token}"}
    with httpx2.Client(base_url=f"http://127.0.0.1:{console.port}", headers=headers, timeout=WITHIN) as client:
        trace = _copies(client, client.get(f"/stories/{_story(live, client)}.json").json())
        with _opened(client, "/stories/stream"), _opened(client, "/map/stream"):
            time.sleep(8)  # a quiet story is compressed
            pages = {path: _page(client, child, path) for path in _paths(trace)}
            visible = [_visible(live, client) for _ in range(TIMES)]
            memory = processes.memory(child.family())
        known = client.get("/stories").text
    assert f"{STORIES:,}" in known or str(STORIES) in known, "the console does not know all stories"
    return [_memory_row(memory), _pages_row(pages), _visible_row(visible)]


def _story(live: Live, client: httpx2.Client) -> str:
    """A sign-up that has been followed to the paid order; returns its trace id."""
    trace = _sign_up(live)
    _until(lambda: "payment.completed" in client.get(f"/stories/{trace}.json").text)
    time.sleep(2)
    return trace


def _sign_up(live: Live) -> str:
    trace = secrets.token_hex(16)
    sampled = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
    user = {"email": f"{uuid4()}@example.org", "name": "Ada"}
    url = f"{live.addresses['GATEWAY_URL']}/api/users"
    httpx2.post(url, json=user, headers=sampled, timeout=WITHIN).raise_for_status()
    return trace


def _visible(live: Live, client: httpx2.Client) -> float:
    """The time from the response until the console has the story with its first span, in seconds."""
    trace = _sign_up(live)
    ended = time.monotonic()
    _until(lambda: (answer := client.get(f"/stories/{trace}.json")).status_code == 200 and answer.json()["method"])
    return time.monotonic() - ended


def _until(condition: Any) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the story does not appear in the console")
        time.sleep(0.02)


def _paths(trace: str) -> list[str]:
    fixed = ["/", "/stories", "/topics", "/topics/user.created", "/groups", "/dead-letters", "/catalogue", "/break"]
    return [*fixed, f"/stories/{trace}", "/stories?text=nothing-has-it"]


def _page(client: httpx2.Client, child: Child, path: str) -> tuple[float, float]:
    """The median of the times of a page, and the console's CPU time for one, in milliseconds."""
    client.get(path).raise_for_status()
    times, before = [], processes.seconds(child.family())
    for _ in range(TIMES):
        begun = time.monotonic()
        client.get(path).raise_for_status()
        times.append(1000 * (time.monotonic() - begun))
    return statistics.median(times), 1000 * (processes.seconds(child.family()) - before) / TIMES


@contextlib.contextmanager
def _opened(client: httpx2.Client, path: str) -> Iterator[None]:
    """An open page: a stream that is read."""
    ended = threading.Event()

    def read() -> None:
        with contextlib.suppress(httpx2.HTTPError), client.stream("GET", path) as answer:
            for _ in answer.iter_raw():
                if ended.is_set():
                    return

    threading.Thread(target=read, daemon=True).start()
    yield
    ended.set()


# --- copies of a story ---


def _copies(client: httpx2.Client, story: dict[str, Any]) -> str:
    """Send the copies; returns the trace id of the last one."""
    trace = b""
    for _ in range(STORIES // AT_ONCE):
        found = []
        for _ in range(AT_ONCE):
            trace = secrets.token_bytes(16)
            found += _copy(story, trace)
        body = ExportTraceServiceRequest(resource_spans=found).SerializeToString()
        client.post("/v1/traces", content=body, headers={"Content-Type": "application/x-protobuf"}).raise_for_status()
    return trace.hex()


def _copy(story: dict[str, Any], trace: bytes) -> Iterator[ResourceSpans]:
    ids = {one["span_id"]: secrets.token_bytes(8) for one in story["span_list"]}
    own = {"request.id": uuid4().hex, "messaging.message.id": str(uuid4()), "messaging.kafka.message.key": str(uuid4())}
    by_process: dict[tuple[str, str], list[Span]] = {}
    for one in story["span_list"]:
        values = {name: own.get(name, value) for name, value in one["attributes"].items()}
        span = Span(
            trace_id=trace,
            span_id=ids[one["span_id"]],
            parent_span_id=ids.get(one["parent_id"], b""),
            name=one["name"],
            kind=f"SPAN_KIND_{one['kind']}",
            start_time_unix_nano=one["begun"],
            end_time_unix_nano=one["ended"],
            attributes=_pairs(values),
            status=Status(),
        )
        by_process.setdefault((one["process"], one["service"]), []).append(span)
    for (process, service), spans in by_process.items():
        role = process.removeprefix(f"{service}-") if process != service else "web"
        described = _pairs({"service.name": service, "process.role": role, "service.instance.id": "copy"})
        yield ResourceSpans(resource=Resource(attributes=described), scope_spans=[ScopeSpans(spans=spans)])


def _pairs(values: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=name, value=AnyValue(string_value=str(value))) for name, value in values.items()]


# --- rows ---


def _memory_row(used: processes.Memory) -> Row:
    return Row(
        f"memory of the console with {STORIES:,} stories, and the map and the list of stories open",
        f"{used.pss:.0f} MiB (PSS; RSS of its two processes {used.rss:.0f} MiB)",
        "",
        None,
        f"≤ {MEMORY_MIB} MiB",
        used.pss <= MEMORY_MIB,
    )


def _pages_row(pages: dict[str, tuple[float, float]]) -> Row:
    slowest = max(pages, key=lambda path: pages[path][0])
    return Row(
        f"slowest page of the console with {STORIES:,} stories, median of {TIMES}",
        f"{pages[slowest][0]:.0f} ms",
        "",
        None,
        f"≤ {PAGE_MS} ms",
        pages[slowest][0] <= PAGE_MS,
        [f"{taken:.0f} ms `{path[:40]}` (CPU time {cpu:.0f} ms)" for path, (taken, cpu) in pages.items()],
    )


def _visible_row(seconds: list[float]) -> Row:
    return Row(
        "from the response of `POST /api/users` until its story is visible, median",
        f"{statistics.median(seconds):.2f} s ({each(sorted(seconds), '{:.2f}'.format)})",
        "",
        None,
        f"≤ {VISIBLE_SECONDS:.0f} s",
        statistics.median(seconds) <= VISIBLE_SECONDS,
    )

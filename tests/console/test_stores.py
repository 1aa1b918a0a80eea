"""What the console keeps in memory, and that it is bounded."""

import gc
import secrets
import tracemalloc
from contextlib import contextmanager

import pytest

from console.stores import spans as span_store
from console.stores.lines import Lines
from console.stores.stories import Stories
from tests.console import spans

MIB = 1024 * 1024


@pytest.fixture
def stories():
    return Stories(8 * MIB, 1_000)


def story_of(stories, *some, **origin):
    stories.receive(spans.request(*some, **origin))
    return stories.summary(some[0].trace_id.hex())


class TestSummary:
    def test_the_request_at_the_gateway_names_the_story(self, stories):
        trace = spans.new_trace()
        child = spans.span(trace, "POST users", parent="ab" * 8, attributes=spans.http("POST", "/users", 201))
        root = spans.span(
            trace, "POST /api/users", attributes=spans.http("POST", "/api/users", 201, **{"request.id": "r-1"})
        )
        story_of(stories, child)
        story = story_of(stories, root, service="gateway", role="gateway")
        story_of(stories, spans.span(trace, "GET users", parent="ab" * 8, attributes=spans.http("GET", "/users", 500)))
        assert (story.name, story.method, story.route, story.status) == ("POST /api/users", "POST", "/api/users", 201)
        assert stories.summary("r-1") is story
        assert story.services == ("users", "gateway")
        assert story.begun == child.start_time_unix_nano
        assert story.spans == 3

    def test_what_happened_to_its_events_is_known(self, stories):
        trace = spans.new_trace()
        key = {
            "messaging.destination.name": "user.created",
            "messaging.kafka.message.key": "u-1",
            "messaging.message.id": "e-1",
        }
        story = story_of(
            stories,
            spans.span(trace, "process", kind="CONSUMER", attributes=key, events=[("retry", {"retry.attempt": 1})]),
        )
        assert (story.state, story.retries) == ("retried", 1)
        dead = [("dead letter", {"deadletter.id": "d-1"})]
        story_of(stories, spans.span(trace, "process", kind="CONSUMER", attributes=key, events=dead, error="failed"))
        assert (story.state, story.dead_letters, story.error) == ("dead-lettered", 1, "process: failed")
        assert story.topics == ("user.created",)
        assert story.ids == "u-1 e-1 d-1"

    @pytest.mark.parametrize(
        ("text", "name", "status"),
        [
            (
                "2026-11-30T07:24:00.739855Z [info     ] request    [access] method=POST route=/api/users status=201 duration_ms=4.1 request_id=r-2 trace_id={trace}",
                "POST /api/users",
                201,
            ),
            (
                '{{"method":"GET","route":"/api/orders","status":502,"duration_ms":3.1,"request_id":"r-2","trace_id":"{trace}","event":"request","logger":"access","level":"info","timestamp":"2026-11-30T07:24:00.739855Z"}}',
                "GET /api/orders",
                502,
            ),
        ],
    )
    def test_a_request_that_was_not_sampled_is_known_by_its_lines(self, stories, text, name, status):
        trace = spans.new_trace()
        stories.read_line("gateway", text.format(trace=trace))
        story = stories.summary(trace)
        assert (story.name, story.status, story.request_id, story.services) == (name, status, "r-2", ("gateway",))
        assert [line.process for line in stories.lines_of(trace)] == ["gateway"]

    @pytest.mark.parametrize(("status", "duration"), [("9" * 5_000, "1.5"), ("٢٠٠", "1.5"), ("99", "9" * 400)])
    def test_nonsense_in_an_access_log_is_no_number(self, stories, status, duration):
        trace = spans.new_trace()
        stories.read_line(
            "gateway", f"[access] method=GET route=/x status={status} duration_ms={duration} trace_id={trace}"
        )
        story = stories.summary(trace)
        assert (story.name, story.status) == ("GET /x", 0)
        assert story.duration in {0, 1_500_000}

    def test_linked_traces_know_of_each_other(self, stories):
        one, batch = spans.new_trace(), spans.new_trace()
        story_of(stories, spans.span(one))
        story_of(stories, spans.span(batch, "process batch", links=[one]))
        assert stories.linked(one) == [batch]
        assert stories.linked(batch) == [one]

    def test_changes_are_seen_by_those_who_wait(self, stories):
        seen = stories.changes
        assert stories.wait(seen, 0.01) == seen
        story = story_of(stories, spans.span(spans.new_trace()))
        assert stories.wait(seen, 10) > seen
        assert stories.newest(10, lambda one: one.changed > seen) == [story]

    def test_the_newest_come_first_and_in_portions(self, stories):
        made = [story_of(stories, spans.span(spans.new_trace(), f"GET /{n}")) for n in range(10)]
        first = stories.newest(4)
        assert first == made[:5:-1]
        assert stories.newest(3, before=first[-1].number) == made[5:2:-1]
        assert stories.newest(9, lambda one: one.name == "GET /3") == [made[3]]


class TestSpans:
    def test_they_are_the_same_after_compression(self, stories, monkeypatch):
        monkeypatch.setattr(span_store, "QUIET_SECONDS", 0.0)
        trace = spans.new_trace()
        story_of(stories, *[spans.span(trace, f"GET /{n}", attributes=spans.http()) for n in range(50)])
        before, size = stories.spans_of(trace), stories.spans.bytes
        assert stories.spans.compress() == 1
        assert stories.spans.bytes < size / 5
        story_of(stories, spans.span(trace, "later"), service="orders")
        assert stories.spans_of(trace)[:50] == before
        assert stories.spans_of(trace)[50].service == "orders"
        assert stories.spans.compress() == 1
        assert len(stories.spans_of(trace)) == 51

    def test_a_burst_is_compressed_before_it_is_quiet(self, stories, monkeypatch):
        monkeypatch.setattr(span_store, "MOST_UNCOMPRESSED", 10_000)
        traces = [spans.new_trace() for _ in range(20)]
        for trace in traces:
            story_of(stories, *[spans.span(trace, attributes=spans.http()) for _ in range(10)])
        size = stories.spans.bytes
        assert 0 < stories.spans.compress() < len(traces)
        assert stories.spans.bytes < size / 2
        assert {len(stories.spans_of(trace)) for trace in traces} == {10}

    def test_one_that_is_sent_twice_is_there_once(self, stories):
        one = spans.span(spans.new_trace())
        story_of(stories, one)
        story_of(stories, one)
        assert len(stories.spans_of(one.trace_id.hex())) == 1

    def test_the_oldest_are_dropped_but_their_summary_stays(self, stories):
        traces = [spans.new_trace() for _ in range(300)]
        for trace in traces:
            story_of(stories, *[spans.span(trace, attributes={"text": secrets.token_hex(10_000)}) for _ in range(2)])
        assert stories.spans.bytes <= 8 * MIB * 2 / 3
        assert stories.spans_of(traces[0]) == []
        assert stories.summary(traces[0]).spans == 2
        assert len(stories.spans_of(traces[-1])) == 2
        assert stories.spans.dropped > 0

    def test_a_trace_that_never_ends_is_cut(self, stories):
        trace = spans.new_trace()
        for _ in range(3):
            stories.receive(spans.request(*[spans.span(trace) for _ in range(span_store.MOST_PER_TRACE // 2)]))
        assert len(stories.spans_of(trace)) == span_store.MOST_PER_TRACE

    def test_after_everything_was_dropped_nothing_is_counted(self, stories):
        for _ in range(2_500):
            story_of(
                stories, spans.span(spans.new_trace(), attributes=spans.http(**{"request.id": secrets.token_hex(8)}))
            )
        assert len(stories) == 1_000
        assert len(stories._by_request) == 1_000
        assert len(stories.spans) == 1_000
        stories.spans.forget(list(stories.spans._traces))
        assert stories.spans.bytes == 0

    def test_made_up_origins_and_links_are_bounded(self, stories):
        trace = spans.new_trace()
        for n in range(3_000):
            one = spans.span(trace, links=[spans.new_trace()])
            other = spans.span(spans.new_trace(), links=[spans.new_trace()])
            stories.receive(spans.request(one, other, instance=f"made up {n}"))
        assert len(stories._linked) <= 2_000
        assert len(stories.spans._origins) <= 3_000
        assert len(stories.linked(other.trace_id.hex())) == 1
        story_of(stories, *[spans.span(trace, links=[spans.new_trace()]) for _ in range(200)])
        assert len(stories.linked(trace)) == 64


class TestMadeUp:
    """Everything that is kept of what a process sends is counted, or bounded in number and length."""

    @pytest.mark.parametrize("what", ["service.name", "process.role", "service.instance.id"])
    def test_origins_are_bounded_in_bytes(self, stories, what):
        with memory() as used:
            for n in range(60):
                message = spans.request(spans.span(spans.new_trace()))
                message.resource_spans[0].resource.attributes.extend(spans.pairs({what: f"{n} {'x' * MIB}"}))
                stories.receive(message)
            assert used() < 8 * MIB

    def test_many_origins_are_counted_and_dropped_with_their_spans(self, stories):
        for n in range(8_000):
            stories.receive(spans.request(spans.span(spans.new_trace()), instance=f"{n} {'x' * 1_000}"))
            assert stories.spans.bytes <= 8 * MIB * 2 / 3
        assert len(stories.spans._origins) == len(stories.spans) == 1_000
        last = stories.newest(1)[0].trace_id
        assert stories.spans_of(last)[0].instance == f"7999 {'x' * 1_000}"[:249]
        stories.spans.forget(list(stories.spans._traces))
        assert len(stories.spans._origins) == stories.spans.bytes == 0

    def test_an_origin_lasts_as_long_as_its_spans(self, stories, monkeypatch):
        monkeypatch.setattr(span_store, "QUIET_SECONDS", 0.0)
        first, second = spans.new_trace(), spans.new_trace()
        for trace, instance in ((first, "a:1"), (second, "a:1"), (second, "b:2"), (second, "a:1")):
            story_of(stories, spans.span(trace), instance=instance)
        assert stories.spans.compress() == 2
        stories.spans.forget([first])
        story_of(stories, spans.span(second), instance="c:3")
        assert [span.instance for span in stories.spans_of(second)] == ["a:1", "b:2", "a:1", "c:3"]
        assert len(stories.spans._origins) == 3

    @pytest.mark.parametrize(
        "name",
        ["request.id", "messaging.destination.name", "messaging.message.id", "http.route", "http.request.method"],
    )
    def test_what_a_summary_keeps_is_bounded(self, stories, name):
        with memory() as used:
            for n in range(1_000):
                story_of(stories, spans.span(spans.new_trace(), attributes={name: f"{n}{'x' * 40_000}"}))
            assert used() < 12 * MIB

    def test_links_are_bounded(self, stories):
        with memory() as used:
            for _ in range(1_500):
                story_of(stories, spans.span(spans.new_trace(), links=[spans.new_trace() for _ in range(60)]))
            assert used() < 12 * MIB
        newest = stories.newest(1)[0].trace_id
        assert len(stories.linked(newest)) == 60
        assert stories.linked(stories.linked(newest)[0]) == [newest]

    def test_a_single_trace_does_not_take_all_of_it(self, stories):
        other, trace = spans.new_trace(), spans.new_trace()
        story_of(stories, spans.span(trace))
        story_of(stories, spans.span(other))
        for _ in range(200):
            story_of(stories, spans.span(trace, attributes={"text": secrets.token_hex(30_000)}))
        assert stories.spans.bytes < 8 * MIB / 4
        assert stories.spans_of(trace)
        assert stories.spans_of(other)
        assert stories.spans.dropped > 0


@contextmanager
def memory():
    """How many bytes of Python objects were allocated since, and are in use."""
    gc.collect()
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


class TestLines:
    def test_the_oldest_are_dropped(self):
        lines = Lines(100_000)
        traces = [spans.new_trace() for _ in range(1_000)]
        for trace in traces:
            lines.add("orders", f"2026-11-30T07:24:00Z [info     ] x [y] trace_id={trace} request_id=r")
        assert lines.bytes <= 100_000
        assert lines.of(traces[0]) == []
        assert [line.trace_id for line in lines.of(traces[-1])] == [traces[-1]]
        assert len(lines._by_id) == len(lines)

    def test_a_long_line_is_cut(self):
        lines = Lines(MIB)
        assert len(lines.add("orders", "x" * 1_000_000).text) == 16_384

    def test_a_traceback_belongs_to_the_line_before_it(self):
        lines = Lines(MIB)
        trace = spans.new_trace()
        first = lines.add("orders", f"2026-11-30T07:24:00Z [error    ] failed [y] trace_id={trace}")
        second = lines.add("orders", "Traceback (most recent call last):", first)
        third = lines.add("orders", '  File "x.py", line 1, in <module>', second)
        other = lines.add("orders", "2026-11-30T07:24:01Z [info     ] other [y]", third)
        assert lines.of(trace) == [first, second, third]
        assert (third.level, other.level, other.trace_id) == ("error", "info", "")

    def test_those_with_a_text_are_found(self):
        lines = Lines(MIB)
        for n in range(20):
            lines.add("orders" if n % 2 else "users", f"line {n} Ünïcode")
        assert [line.text for line in lines.newest(2, process="orders", text="ünïcode")] == [
            "line 17 Ünïcode",
            "line 19 Ünïcode",
        ]


class TestUnderLoad:
    LINE = "2026-11-30T07:24:00Z [info     ] request [access] method=GET route=/api/users status={status} duration_ms=1.5 trace_id={trace} request_id={trace}"

    def test_requests_that_were_not_sampled_drive_out_no_others(self, stories):
        sampled, failed = spans.new_trace(), spans.new_trace()
        story_of(stories, spans.span(sampled))
        stories.read_line("gateway", self.LINE.format(status=502, trace=failed))
        for _ in range(3_000):
            stories.read_line("gateway", self.LINE.format(status=200, trace=spans.new_trace()))
        assert stories.summary(sampled) is not None
        assert (stories.summary(failed).state, stories.summary(failed).duration) == ("failed", 1_500_000)
        # Its span, which would say the same, has not come.
        assert stories.summary(failed).whole >= 1_500_000
        assert len(stories) == 252
        assert len(stories._by_request) == 251

"""What becomes of spans in the diagram of a story: lifelines, steps, bars and folds, and where they are drawn."""

import re
import secrets
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from console.sequence import svg
from console.sequence.build import Context, diagram
from console.sequence.folding import MOST_FAILED, SHOWN
from console.sequence.layout import ROW, Layout
from console.sequence.model import duration_text
from console.stores.lines import Lines
from console.stores.model import Happening, Span, SpanLink

MS = 1_000_000
START = 1_800_000_000_000_000_000
TRACE = "ab" * 16


def span(
    name, kind="INTERNAL", process="users", at=0.0, took=1.0, *, parent=None, error=None, events=(), links=(), **more
):
    """A span; times in milliseconds since the start of the story."""
    service, _, role = process.partition("-")
    begun = START + int(at * MS)
    return Span(
        trace_id=TRACE,
        span_id=more.get("span_id") or secrets.token_hex(8),
        parent_id=parent.span_id if parent else "",
        name=name,
        kind=kind,
        service=service,
        role=role or ("gateway" if service == "gateway" else "web"),
        instance="host:1",
        begun=begun,
        ended=begun + int(took * MS),
        attributes=more.get("attributes", {}),
        happenings=tuple(Happening(what, begun + int(took * MS), values) for what, values in events),
        links=tuple(SpanLink(TRACE, one.span_id, {}) for one in links),
        error=error,
    )


def sql(text, at, parent, took=1.0, **more):
    values = {"db.system.name": "postgresql", "db.namespace": f"{parent.service}db", "db.query.text": text}
    return span(text, "CLIENT", parent.process, at, took, parent=parent, attributes=values, **more)


def sent(topic, at, parent, process, took=4.0, **attributes):
    values = {"messaging.destination.name": topic, **attributes}
    return span(f"send {topic}", "PRODUCER", process, at, took, parent=parent, attributes=values)


def processed(topic, at, parent, process, took=10.0, attempt=1, event="e-1", **more):
    values = {
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 7,
        "messaging.consumer.group.name": process.partition("-")[0],
        "messaging.message.id": event,
        "event.attempt": attempt,
        **more.pop("attributes", {}),
    }
    return span(f"process {topic}", "CONSUMER", process, at, took, parent=parent, attributes=values, **more)


def rows(drawn):
    return [(step.source.title, step.target.title, step.text) for step in drawn.steps]


@pytest.fixture
def request_spans():
    """gateway → users → database."""
    root = span("POST /api/users", "SERVER", "gateway", 0, 50, attributes={"http.response.status_code": 201})
    call = span("POST /users", "CLIENT", "gateway", 1, 48, parent=root, attributes={"http.response.status_code": 201})
    served = span("POST users", "SERVER", "users", 5, 40, parent=call)
    return root, call, served, sql("INSERT users", 6, served, 2)


class TestSteps:
    def test_a_request_goes_through_its_processes_and_returns(self, request_spans):
        drawn = diagram(request_spans, Context())
        assert rows(drawn) == [
            ("client", "gateway", "POST /api/users"),
            ("gateway", "users", "POST users"),
            ("users", "usersdb", "INSERT users 2.0 ms"),
            ("users", "gateway", "201 after 48 ms"),
            ("gateway", "client", "201 after 50 ms"),
        ]
        assert [lifeline.title for lifeline in drawn.lifelines] == ["client", "gateway", "users", "usersdb"]

    def test_a_service_that_did_not_answer_is_shown_too(self):
        root = span("POST /api/users", "SERVER", "gateway", 0, 50, error="", attributes={"error.type": "unavailable"})
        values = {"server.address": "127.0.0.1", "server.port": 8001, "error.type": "ConnectionRefusedError"}
        call = span("POST /users", "CLIENT", "gateway", 1, 48, parent=root, error="", attributes=values)
        drawn = diagram([root, call], Context(peers={"127.0.0.1:8001": "users"}))
        assert ("gateway", "users", "POST /users") in rows(drawn)
        reply = next(step for step in drawn.steps if step.source.title == "users")
        assert (reply.text, reply.failed) == ("ConnectionRefusedError after 48 ms", True)

    def test_an_event_waits_in_the_outbox_and_on_the_topic(self, request_spans):
        served = request_spans[2]
        relay = sent(
            "user.created",
            80,
            served,
            "users-relay",
            **{"outbox.wait_seconds": 0.03, "messaging.destination.partition.id": "4"},
        )
        consumer = processed("user.created", 100, served, "orders-consume", links=[relay])
        drawn = diagram([*request_spans, relay, consumer], Context())
        assert rows(drawn)[-3:] == [
            ("usersdb", "users-relay", "outbox: user.created waited 30 ms"),
            ("users-relay", "user.created", "send user.created to partition 4, 4.0 ms"),
            ("user.created", "orders-consume", "process user.created, waited 16 ms"),
        ]
        waits = {
            (bar.lifeline.title, bar.kind): (bar.begun - START, bar.ended - START)
            for bar in drawn.bars
            if bar.is_waiting
        }
        assert waits == {
            ("usersdb", "outbox"): (50 * MS, 80 * MS),
            ("user.created", "kafka"): (84 * MS, 100 * MS),
        }

    def test_each_attempt_tells_its_error_and_what_follows(self):
        lines = Lines(1_000_000)
        line = lines.add(
            "orders-consume",
            '{"event":"event failed, will try again","level":"warning","timestamp":"2026-11-30T07:28:01Z","event_id":"e-1","attempt":1,'
            f'"trace_id":"{TRACE}","exception":[{{"type":"ProgrammingError","message":"no order"}}]}}',
        )
        retry = [("retry", {"retry.attempt": 1, "retry.delay_seconds": 0.159})]
        dead = [
            ("exception", {"exception.type": "django.db.utils.ProgrammingError", "exception.message": "no\norder"}),
            ("dead letter", {"deadletter.attempts": 2, "deadletter.reason": "handler"}),
        ]
        first = processed("user.created", 0, None, "orders-consume", events=retry)
        second = processed("user.created", 200, None, "orders-consume", attempt=2, events=dead, error="handler")
        letter = sent("user.created.orders.dlq", 230, None, "orders-relay", **{"outbox.wait_seconds": 0.01})
        drawn = diagram([first, second, letter], Context({"orders": "orderdb"}, lines=[line]))
        assert [text for _, _, text in rows(drawn)] == [
            "process user.created",
            "failed: ProgrammingError: no order; tried again in 159 ms",
            "attempt 2: process user.created",
            "dead letter after 2 attempts: ProgrammingError: no order",
            "outbox: user.created.orders.dlq waited 10 ms",
            "send user.created.orders.dlq, 4.0 ms",
        ]
        wait = next(bar for bar in drawn.bars if bar.kind == "retry")
        assert (wait.begun - START, wait.ended - START, wait.is_waiting) == (10 * MS, 200 * MS, True)
        assert {step.kind for step in drawn.steps if step.failed} == {"retry", "dead"}

    def test_a_redrive_comes_from_the_dead_letter_topic(self):
        letter = sent("user.created.orders.dlq", 0, None, "orders-relay")
        values = {"messaging.destination.name": "user.created", "deadletter.id": "d-123456789"}
        redrive = span("send user.created", "PRODUCER", "orders-command", 50, 3, attributes=values, links=[letter])
        again = processed(
            "user.created", 60, None, "orders-consume", links=[redrive], attributes={"deadletter.id": "d-123456789"}
        )
        assert rows(diagram([letter, redrive, again], Context()))[1:] == [
            ("user.created.orders.dlq", "orders-command", "redrive of dead letter d-123456"),
            ("orders-command", "user.created", "send user.created, 3.0 ms"),
            ("user.created", "orders-consume", "process user.created, redriven, waited 7.0 ms"),
        ]

    def test_a_duplicate_is_named(self):
        one = processed("user.created", 0, None, "orders-consume", attributes={"event.duplicate": True})
        assert rows(diagram([one], Context()))[-1] == ("orders-consume", "orders-consume", "a duplicate: skipped")

    @pytest.mark.parametrize("value", ["", "many", -1, 1e300, None, "nan"])
    def test_nonsense_in_attributes_is_not_shown(self, value):
        values = {
            "outbox.wait_seconds": value,
            "kafka.wait_seconds": value,
            "event.attempt": value,
            "http.request.resend_count": value,
        }
        kinds = ("SERVER", "CLIENT", "PRODUCER", "CONSUMER", "INTERNAL")
        some = [
            span("x", kind, attributes=values, events=[("retry", {"retry.delay_seconds": value})]) for kind in kinds
        ]
        drawn = diagram(some, Context())
        assert svg.body(drawn, "/stories/x")
        assert min(bar.begun for bar in drawn.bars) >= START

    def test_no_spans_are_an_empty_diagram(self):
        drawn = diagram([], Context())
        assert (drawn.steps, drawn.lifelines) == ([], [])
        assert ElementTree.fromstring(svg.body(drawn, "/")) is not None


class TestFolds:
    def test_equal_statements_in_a_row_are_one(self, request_spans):
        root, call, served, insert = request_spans
        many = [sql("SELECT products", 10 + n, served, 0.5) for n in range(5)]
        drawn = diagram([root, call, served, insert, *many], Context())
        fold = next(step for step in drawn.steps if step.fold)
        assert fold.text == "5 times SELECT products, 2.5 ms in all"
        assert drawn.folded == 5
        opened = diagram([root, call, served, insert, *many], Context(), [fold.fold])
        assert opened.folded == 0
        assert len(opened.steps) == len(drawn.steps) + 4

    def test_a_thousand_statements_that_alternate_are_a_few_rows_and_failures_stay(self, request_spans):
        served = request_spans[2]
        texts = ("SELECT products", "UPDATE stock")
        many = [sql(texts[n % 2], 10 + n / 40, served, 0.01, error="23505" if n == 700 else None) for n in range(1_000)]
        drawn = diagram([*request_spans, *many], Context())
        assert len(drawn.steps) == 5 + 2 * SHOWN + 2 + 1
        assert [step.text for step in drawn.steps if step.failed] == ["SELECT products: 23505 0.01 ms"]
        assert diagram([*request_spans, *many], Context(), ["all"]).folded == 0

    def test_many_different_statements_are_folded_too(self, request_spans):
        served = request_spans[2]
        many = [sql(f"SELECT t{n}", 10 + n / 40, served, 0.01) for n in range(1_000)]
        drawn = diagram([*request_spans, *many], Context())
        assert len(drawn.steps) < 40
        assert any(step.text.startswith("981 other statements") for step in drawn.steps)

    def test_what_a_folded_event_caused_is_folded_with_it(self, request_spans):
        served = request_spans[2]
        events = [processed("user.created", 60 + n, served, "orders-consume", event=f"e-{n}") for n in range(100)]
        inner = [sql("INSERT orders", 60.5 + n, one, 0.1) for n, one in enumerate(events)]
        drawn = diagram([*request_spans, *events, *inner], Context())
        fold = next(step for step in drawn.steps if step.fold)
        assert fold.text == "97 times process user.created, 970 ms in all, with 97 spans below"
        assert drawn.folded == 2 * 97

    def test_not_even_all_failures_are_shown(self, request_spans):
        served = request_spans[2]
        many = [sql("SELECT 1", 10 + n / 10, served, 0.01, error="57014") for n in range(200)]
        drawn = diagram([*request_spans, *many], Context())
        assert sum(step.failed for step in drawn.steps) == SHOWN + MOST_FAILED

    def test_spans_that_are_their_own_ancestors_are_shown(self):
        one, other = span("one", span_id="a" * 16), span("other", span_id="b" * 16)
        own = span("own", span_id="c" * 16)
        tied = [
            Span(**{name: getattr(each, name) for name in Span.__slots__} | {"parent_id": parent})
            for each, parent in ((one, "b" * 16), (other, "a" * 16), (own, "c" * 16))
        ]
        assert sorted(text.split()[0] for _, _, text in rows(diagram(tied, Context()))) == ["one", "other", "own"]


class TestDrawing:
    def test_time_never_runs_upwards_and_rows_do_not_touch(self, request_spans):
        served = request_spans[2]
        late = processed("user.created", 20_000, served, "orders-consume")
        drawn = diagram([*request_spans, late], Context())
        layout = Layout(drawn)
        heights = [layout.row_of[step.id] for step in drawn.steps]
        assert all(after - before >= ROW for before, after in pairwise(heights))
        assert layout.height < 500, "a wait of 20 s does not make it 20 s long"
        assert [duration_text(pause.duration) for pause in layout.pauses] == ["19.9 s"]
        ys = [layout.y(START + at * MS) for at in range(0, 25_000, 7)]
        assert ys == sorted(ys)

    def test_hostile_names_are_text(self):
        bad = "\"><script>alert(1)</script>&'"
        values = {"http.response.status_code": bad, "db.system.name": bad, "db.namespace": bad}
        some = [
            span(bad, kind, process=bad, attributes={**values, "messaging.destination.name": bad}, error=bad)
            for kind in ("SERVER", "CLIENT", "PRODUCER", "CONSUMER", "INTERNAL")
        ]
        drawn = diagram(some, Context())
        for text in (svg.body(drawn, f"/stories/{bad}", [bad], bad), svg.heading(drawn)):
            assert "<script" not in text
            assert "alert(1)" in "".join(ElementTree.fromstring(text).itertext())

    def test_every_row_is_a_link_with_a_name_that_begins_with_what_is_seen(self, request_spans):
        tree = ElementTree.fromstring(
            svg.body(diagram(request_spans, Context()), "/stories/x", selected=request_spans[2].span_id)
        )
        links = tree.findall("{http://www.w3.org/2000/svg}a")
        for link in links:
            assert link.attrib["aria-label"].startswith(re.sub(r"\s+", " ", "".join(link.itertext())))
        assert [link.attrib["tabindex"] for link in links].count("0") == 1
        assert [link.attrib["data-span"] for link in links if link.attrib.get("aria-current")] == [
            request_spans[2].span_id
        ]


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0.00 ms"), (420_000, "0.42 ms"), (5_200_000, "5.2 ms"), (182_000_000, "182 ms"), (1_500_000_000, "1.50 s"), (17_900_000_000, "17.9 s"), (600e9, "10.0 min"), (9_000e9, "2.5 h")],
)  # fmt: skip
def test_durations_are_for_people(nanoseconds, text):
    assert duration_text(nanoseconds) == text
